"""Commands for whoever changes the code: has a number changed, what did the fault tests count."""
