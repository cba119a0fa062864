"""What another policy or pack would have done: recorded or given traffic, judged again.

``cases`` and ``given`` say what happened, ``weigh`` judges by recorded scores, ``replay`` by texts, ``tally``
adds up, and ``run`` is the way through all of it.
"""
