"""The feedback loop: from what people say of a decision to a corrected pack that is served.

``request`` reads what is said, ``recorded`` finds the text it is about, ``give`` enters it; ``trainer``
makes a candidate in a process of its own, ``trial`` counts what it would change, ``cases`` are the tests
that corrections are, ``loop`` holds it together in a gateway; ``review`` and ``drift`` are for people.
"""
