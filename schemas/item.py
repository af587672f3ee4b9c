"""An item of the catalogue, on `items`. Knows nothing of who recommends it."""

from __future__ import annotations

from schemas.fields import Id, Labels, Message, Text, Time, Title


class Item(Message):
    """What is known of an item; a null value on the topic makes it unknown again.

    available: False withdraws it. expires_at: it is not recommended from then on.
    """

    item_id: Id
    title: Title
    text: Text | None = None
    labels: Labels = ()
    available: bool = True
    expires_at: Time | None = None
