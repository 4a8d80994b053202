"""What the chapter judges."""

CLAIMS = ()
