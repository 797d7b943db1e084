"""How often a test set was used, by searches of any name, and as older versions kept it."""

from hpsearch.analysis import attributes
from hpsearch.analysis.uses_of_test_images import count_uses, place_of_use, uses_of_images
from hpsearch.storage import StudyRow


def study(name, images, *tests, source=None):
    attrs = {attributes.DATASET: {"fingerprint": images}, attributes.PROVENANCE: {"from": source, "ranges": []}}
    return StudyRow(1, name, ("maximize",), {**attrs, attributes.TESTS: list(tests)})


def use(number, images=None):
    return {"use": number, "mean": 0.9, "time": f"t{number}"} | ({"images": images} if images else {})


def count(of, *studies, test_images=None):
    return count_uses([of], studies, test_images).num


def test_searches_of_the_same_images_count_whatever_they_are_called():
    one, other = study("one", "A", use(1, "T"), use(2, "T")), study("other", "A", use(3, "T"))
    far = study("far", "B", use(4, "S"))
    assert count(one, one, other, far) == count(other, one, other, far) == 3
    assert count(far, one, other, far) == 1


def test_test_images_stay_the_same_where_others_are_trained_on():
    one, more = study("one", "A", use(1, "T")), study("more", "A and more")
    assert count(more, one, more, test_images="T") == 1
    assert count(more, one, more, test_images="U") == count(more, one, more) == 0
    used = study("more", "A and more", use(2, "T"))
    assert count(used, one, used) == 2  # as its own use says which they are


def test_of_older_uses_the_images_that_were_trained_on_count():
    old, new = study("old", "A", use(1)), study("new", "A", use(2, "T"))
    far = study("far", "B", use(3))
    assert count(new, old, new, far, test_images="T") == 2
    fine = study("fine", "C", use(4), source="new")  # images may have changed: it was chosen by what those said
    assert count(new, old, new, far, fine) == 3


def test_an_ensemble_of_several_families_is_one_use():
    shared = use(1, "T")
    assert count(study("a", "A", shared), study("a", "A", shared), study("b", "A", shared)) == 1


def test_studies_of_others_have_none():
    bare = StudyRow(1, "x", ("maximize",))
    assert count(bare, bare, StudyRow(2, "y", ("maximize",))) == 0


def test_all_who_say_the_count_say_one_number():
    shared = use(1, "T")
    a, fine = study("a", "A", shared, use(2, "T")), study("fine", "A", use(3, "T"), source="a")
    b, studies = study("b", "B", shared), ()
    studies = (a, fine, b)
    found = count_uses([fine, b], studies)
    assert (found.num, found.by_stage, found.by_family) == (3, {"fine": 1, "b": 1}, {"a": 3, "b": 1})
    assert found.count_text == (
        "these test images have been used 3 times by the searches here, 1 time by fine, 1 time by b"
    )
    assert count_uses([fine], studies).with_next.use_text == (
        "use 4 of these test images (use 2 by fine, use 4 by all that descends from a)"
    )
    assert [place_of_use(each, uses_of_images(b, studies)) for each in (use(3, "T"), shared, use(9))] == [3, 1, None]
