"""The formats of a report: each writes rows as they come, and keeps some hundreds or thousands at most.

table       for people (`tables`)
json        JSON Lines (`lines`)
csv         RFC 4180, safe to open in a spreadsheet (`spreadsheets`)
ocsf        OCSF 1.5.0, JSON Lines (`ocsf`)
parquet     typed columns, with pyarrow (`parquet`)
"""
