"""A store in memory, for tests that make very many calls."""

from eflib.store.base import STREAMS, Store


class MemoryStore(Store):
    """Keys in a dictionary of this process."""

    def __init__(self):
        self.values = {}

    @property
    def url(self):
        return "memory"

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        self.values[key] = value

    def compare_and_set(self, key, expected, value):
        if self.values.get(key) != expected:
            return False
        self.values[key] = value
        return True

    def delete(self, key):
        return self.values.pop(key, None) is not None

    def list(self, prefix=""):
        hidden = not prefix.startswith(STREAMS)
        found = [key for key in self.values if key.startswith(prefix)]
        return sorted(key for key in found if not (hidden and key.startswith(STREAMS)))

    def close(self):
        pass
