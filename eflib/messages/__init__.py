"""Every message, document and record that crosses a process border, one frozen type for each.

They travel as signed JSON (``eflib.store.signed``). ``eflib.messages.codec`` reads and writes them:
what does not have the type and the bounds written here is refused where it enters, so the code
behind it never meets a missing field, a text without end or a number out of range. Unknown fields
are ignored, so that a newer version may add some.
"""
