"""The one async core: a request comes in, policy decides, store and origin act, an answer goes out.

`core` is the machine of one request; `keeping` what its response means to the store; `filling` what outlives a
client: fills under way; `answers` and `outcome` what the shells and the log get; `pages` our own few pages. Both
shells (mitmproxy's hooks now, the lane later) call `Exchange.answer` and nothing else.
"""
