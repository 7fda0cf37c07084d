"""What istiod stored: its own debug page read back, and compared with what is published.

An ACK says nothing (istiod sends no NACK and drops what it does not like with a line in its log), so this is the only
way to know.
"""
