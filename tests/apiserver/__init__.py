"""The tests' API server (`tests.kit.apiserver`), held to a real one's recordings and to clients that know no other."""
