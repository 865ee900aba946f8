"""The one async core: a request comes in, policy decides, store and origin act, an answer goes out.

`core` is the machine of one request; `answers` what it hands to the shells; `filling` what outlives a client:
fills under way. Both shells (mitmproxy's hooks now, the lane later) call `Exchange.answer` and nothing else.
"""
