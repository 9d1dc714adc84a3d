"""The terminal: command lines, help, messages, progress, signals. No torch here."""
