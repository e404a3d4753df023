"""What codes of FIX 4.4 and 5.0 SP2 mean in our columns.  Source: FIX 4.4 with errata 20030618, volume 6."""

SIDES = {"1": "buy", "2": "sell"}
TYPES = {"1": "market", "2": "limit", "3": "stop", "4": "stop_limit"}
TIMES_IN_FORCE = {"0": "day", "1": "gtc", "3": "ioc", "4": "fok", "6": "gtd"}
POST_ONLY, REDUCE_ONLY = "6", "E"
"""ExecInst: participate, do not initiate; do not increase."""

STATUSES = {
    "0": "new",
    "1": "partially_filled",
    "2": "filled",
    "3": "done_for_day",
    "4": "cancelled",
    "6": "pending_cancel",
    "7": "stopped",
    "8": "rejected",
    "A": "pending_new",
    "C": "expired",
    "E": "pending_replace",
}
EVENTS = {
    "0": "new",
    "3": "done_for_day",
    "4": "cancelled",
    "5": "replaced",
    "6": "pending_cancel",
    "7": "stopped",
    "8": "rejected",
    "A": "pending_new",
    "C": "expired",
    "D": "restated",
    "E": "pending_replace",
    "F": "trade",
    "G": "trade_correct",
    "H": "trade_cancel",
    "I": "status",
}
"""ExecType."""
DONE = frozenset({"filled", "cancelled", "rejected", "expired"})
"""Statuses after which nothing can trade."""

SIDE_CODES = {word: code for code, word in SIDES.items()}
TYPE_CODES = {word: code for code, word in TYPES.items()}
TIME_CODES = {word: code for code, word in TIMES_IN_FORCE.items()}
STATUS_CODES = {word: code for code, word in STATUSES.items()}
EVENT_CODES = {word: code for code, word in EVENTS.items()}

NEW, REPLACE, CANCEL, STATUS, MASS_STATUS, MASS_CANCEL = "D", "G", "F", "H", "AF", "q"
REPORT, CANCEL_REJECT, MASS_CANCEL_REPORT, BUSINESS_REJECT, SESSION_REJECT = "8", "9", "r", "j", "3"
"""MsgTypes."""
REQUESTS = frozenset({NEW, REPLACE, CANCEL, MASS_CANCEL})
"""Messages that want something to be done: never sent a second time by themselves."""
