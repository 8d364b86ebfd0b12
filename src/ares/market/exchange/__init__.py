"""Bars from exchanges: sources, a spool that survives any kill, and the import at its end.

source     what a source of bars is, and which ones there are
ccxt_source, dumps   klines of any exchange by ccxt; Binance's bulk dumps
ccxt_client          the ccxt object: quiet, at the address that was asked for, with keys or none
web, zipped          HTTP for files, and the one member of a dump's archive
retry      backoff with full jitter; `Retry-After` is honoured
spool      fetched pages as files, found again by the next process
download   missing ranges -> spool -> `import_files` -> what happened
refetch    the ranges that a repair took out, and gaps that the exchange can fill
keys       API keys from the environment or a keyring of mode 600
"""
