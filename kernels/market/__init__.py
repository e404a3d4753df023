"""Contract terms, indices, quotes and the other fields of tickers: one rule for each, for all kernels.

Terms     of the rows of a contract the one with the latest event time counts; of two at one instant the greater, field by field
Index     of the prices of a series (venue, underlying, currency) the latest counts; of two at one instant the greater.  The
          series that values a contract: its currency first, then its own venue, then the middle one of the other venues
          (`indices`)
Quote     the newest of `book_tops`, and of the `tickers` with bid and ask; of both at one instant that of the book
Parts     each part of a ticker by its own time: NULL leaves the part unchanged; of two at one instant the one with the higher
          partition and offset counts

None of these depends on the order in which the messages of a batch arrive.  Each kernel stores the parts that it needs.
"""
