"""A body sets what it says and nothing else: what cannot be set is refused by name, unless it says what is there."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework import serializers

from keybits.drf import ClosedMembersMixin
from keybits.drf.members import MOST_NAMED

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

PRESENT: dict[str, Any] = {"id": 1, "title": "Old", "size": None, "shape": {"w": 1, "h": [2]}}


class Shot(ClosedMembersMixin, serializers.Serializer[Any]):
    id = serializers.IntegerField(read_only=True)
    title = serializers.CharField()
    size = serializers.IntegerField(required=False, allow_null=True)
    shape = serializers.JSONField(read_only=True)
    secret = serializers.CharField(write_only=True)


def of(data: Any, represented: Any = PRESENT, **options: Any) -> Shot:
    """Return the serializer of a change of what is represented."""
    return Shot(object(), data=data, context={"represented": represented}, **options)


def set_by(serializer: Any) -> Any:
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def refused(serializer: Any) -> dict[str, list[str]]:
    assert not serializer.is_valid()
    return {name: [str(each) for each in errors] for name, errors in serializer.errors.items()}


class OfAProject(serializers.Serializer[Any]):
    """A serializer's base whose `__init__` looks for what it is given by name."""

    title = serializers.CharField()

    def __init__(self, instance: Any = None, **options: Any) -> None:
        self.has_data = "data" in options
        super().__init__(instance, **options)


def test_a_base_of_a_project_s_own_is_given_the_body_by_name_if_there_is_one() -> None:
    class Own(ClosedMembersMixin, OfAProject):
        pass

    assert (Own(data={"title": "New"}).has_data, Own().has_data) == (True, False)
    assert set_by(Own(data={"title": "New"})) == {"title": "New"}


class TestWhatIsSet:
    def test_is_what_differs(self) -> None:
        assert set_by(of({**PRESENT, "title": "New"}, partial=True)) == {"title": "New"}

    def test_is_nothing_where_all_is_as_it_was(self) -> None:
        assert set_by(of(PRESENT)) == {}

    def test_may_be_what_nobody_is_shown(self) -> None:
        assert set_by(of({"secret": "x"}, partial=True)) == {"secret": "x"}

    def test_may_be_null_where_there_was_something(self) -> None:
        assert set_by(of({"size": None}, {**PRESENT, "size": 3}, partial=True)) == {"size": None}

    @pytest.mark.parametrize("context", [{}, {"represented": None}])
    def test_of_what_is_new_is_all(self, context: dict[str, Any]) -> None:
        body = {"title": "Old", "secret": "x"}
        assert set_by(Shot(data=body, context=context)) == body
        assert list(refused(Shot(data={}, context=context))) == ["title", "secret"]

    def test_order_in_an_object_means_nothing(self) -> None:
        assert set_by(of({"shape": {"h": [2], "w": 1}}, partial=True)) == {}


class TestWhatCannotBeSet:
    @pytest.mark.parametrize("value", [2, True, 1.0, "1", None, [1]])
    def test_is_refused_where_it_says_something_else(self, value: Any) -> None:
        assert refused(of({"id": value}, partial=True)) == {"id": ["This cannot be set."]}

    def test_is_refused_together_with_all_else_that_is_wrong(self) -> None:
        assert list(refused(of({"id": 2, "titel": "x", "shape": {}}, partial=True))) == [
            "id",
            "titel",
            "shape",
        ]

    def test_is_called_unknown_where_nobody_is_shown_it(self) -> None:
        assert refused(Shot(data={"title": "x", "secret": "x", "id": 1})) == {
            "id": ["There is no such member. Those that can be set are secret, size, title."]
        }

    @pytest.mark.parametrize(("name", "hint"), [("titel", "Did you mean 'title'? "), ("zzz", "")])
    def test_is_named_with_what_can_be(self, name: str, hint: str) -> None:
        said = f"There is no such member. {hint}Those that can be set are secret, size, title."
        assert refused(of({name: "x"}, partial=True)) == {name: [said]}

    def test_is_named_with_the_nearest_alone_where_several_are_near(self) -> None:
        class Near(Shot):
            titles = serializers.CharField()

        assert "Did you mean 'title'? Those" in refused(Near(data={"titl": "x"}))["titl"][0]

    def test_of_much_a_few_are_named_and_the_others_counted(self) -> None:
        names = [f"x{number}" for number in range(MOST_NAMED + 2)]
        assert list(refused(of(dict.fromkeys(names[:-2]), partial=True))) == names[:-2]
        errors = refused(of(dict.fromkeys(names), partial=True))
        assert errors.pop("non_field_errors") == ["2 more members of the body cannot be set."]
        assert list(errors) == names[:-2]

    def test_may_be_what_no_body_can_say(self) -> None:
        """Text of a database may hold a lone surrogate."""
        represented = {**PRESENT, "shape": {"w": 1, "name": "\ud800"}}
        assert refused(of({"shape": "x"}, represented, partial=True)) == {"shape": ["This cannot be set."]}
        assert set_by(of({"shape": {"name": "\ud800", "w": 1}}, represented, partial=True)) == {}


class TestPut:
    def test_has_all_that_can_be_set_and_is_shown(self) -> None:
        said = "PUT replaces the whole: send this member too, or use PATCH."
        assert refused(of({"secret": "x"})) == {"title": [said], "size": [said]}
        assert set_by(of({"title": "New", "size": 3})) == {"title": "New", "size": 3}

    def test_names_what_is_left_out_beside_what_cannot_be_set(self) -> None:
        assert list(refused(of({"id": 2, "title": "x"}))) == ["id", "size"]

    def test_is_no_patch_that_has_one_member_only(self) -> None:
        assert set_by(of({"title": "New"}, partial=True)) == {"title": "New"}


class TestNoObject:
    @pytest.mark.parametrize("body", [None, [], [1], "x", 1, True])
    def test_is_refused(self, body: Any) -> None:
        said = {"non_field_errors": ["Write a JSON object, in braces."]}
        assert refused(of(body, partial=True)) == refused(Shot(data=body)) == said

    def test_may_be_null_where_null_is_allowed(self) -> None:
        assert Shot(allow_null=True).run_validation(None) is None

    def test_is_not_what_shows_a_row(self) -> None:
        shown = Shot({"id": 1, "title": "x", "size": 2, "shape": None})
        assert not hasattr(shown, "initial_data")
        assert shown.data == {"id": 1, "title": "x", "size": 2, "shape": None}
