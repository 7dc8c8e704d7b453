"""What each format's bytes say, as pages of text. Nothing here opens a file: it is given bytes, and believes none of them."""
