"""No module imports another one that imports it again, however long the way round; lazy imports count."""

import grimp


def in_circles(imports):
    """What is left when all that imports nothing that is left has been taken away, again and again."""
    left = dict(imports)
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_imports_run_in_a_circle():
    graph = grimp.build_graph("hpsearch", exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 100
    assert in_circles({name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}) == []


def test_a_circle_would_be_seen():
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": set()}) == ["a", "b", "c"]
