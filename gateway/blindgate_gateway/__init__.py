"""The gateway: a broker between those who ask and those who compute, which sees neither data nor models' workings."""
