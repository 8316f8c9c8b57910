"""The mark of sealed data: nobody's own data has a field of its name, in whatever spelling."""

import pytest

from stepstream.bus.encryption.sealing import Reserved, refuse_mark

MARKS = [
    b'{"$sealed":"aGk="}',
    b'{"$sealed" : "aGk="}',
    b'{"a":[1,{"b":2,\n"$sealed"\t:{}}]}',
    b'{"\\u0024sealed":"aGk="}',
    b'{"$se\\u0061\\u006Ced":"aGk="}',
    b'{"$se\\u0061\\u006ced":"aGk="}',
]


@pytest.mark.parametrize("data", MARKS)
def test_a_field_of_the_marks_name_is_refused_however_it_is_spelled(data: bytes) -> None:
    with pytest.raises(Reserved, match=r"has a field \$sealed"):
        refuse_mark(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"$sealed"}',
        b'["$sealed", ":"]',
        b'{"a":"{\\"$sealed\\":\\"aGk=\\"}"}',
        b'{"\\"$sealed":1,"$sealed.":2,"\\u00e4":3}',
    ],
)
def test_a_text_about_the_mark_is_no_mark(data: bytes) -> None:
    assert refuse_mark(data) == data
