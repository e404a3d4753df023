"""The page: what the suite knows, in a browser.  `gammaflow page`; docs/page.md.

It only looks.  A source keeps the newest row of each key and short rings (`store`, fed from Kafka by `listening`), or reads the
Parquet files of a run at an instant (`finished`).  `views` says what each view shows of it, `frames` sends that to a browser
ten times a second at most, `server` answers requests, and static/ has the modules that draw.
"""
