"""The commands ``eflaunch`` and ``efctl``: from a person's words to messages, and back to words."""
