"""What the market says, by one rule for all kernels: contract terms, indices, quotes and the other parts of tickers.

Terms     of the rows of a contract the one with the latest event time stands; of two at one instant the greater, field by field
Index     of the prices of a series (venue, underlying, currency) the latest stands; of two at one instant the greater.  Which
          series values a contract: its currency first, then its own venue, then the middle one of the other venues (`indices`)
Quote     the newest of `book_tops`, and of the `tickers` that speak of bid and ask; of both at one instant that of the book
Parts     each part of a ticker by its own time: NULL leaves the part as it is; of two at one instant the one with the higher
          partition and offset stands

None of these depends on the order in which the messages of a batch arrive.  A kernel keeps and stores what it needs of them.
"""
