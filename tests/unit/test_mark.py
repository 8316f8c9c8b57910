"""The marks of what stands in place of data: nobody's own has a field of their names, in whatever spelling."""

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


@pytest.mark.parametrize("name", ["$sealed", "$blob"])
@pytest.mark.parametrize("data", MARKS)
def test_a_field_of_a_marks_name_is_refused_however_it_is_spelled(data: bytes, name: str) -> None:
    named = {
        b"$sealed": b"$blob",
        b"u0024sealed": b"u0024blob",
        b"$se\\u0061\\u006Ced": b"$bl\\u006Fb",
        b"$se\\u0061\\u006ced": b"$bl\\u006fb",
    }
    for one, other in named.items() if name == "$blob" else ():
        data = data.replace(one, other)
    with pytest.raises(Reserved, match=rf"has a field \{name},"):
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
