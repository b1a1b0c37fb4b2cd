"""What `brockman demo` records: people who look around in a shop. Pure; the same seed gives the same triggers."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any

from brockman.cli.arguments import Arguments

NUMBER = "number"  # the variable that tells each trigger from every other, counted from 1
_PEOPLE = 2000
_FIRST = ("Ada", "Björn", "Chidi", "Dolores", "Émile", "Fatima", "Grace", "Hiroshi", "Inés", "Jürgen", "Łucja")
_LAST = ("Okafor", "Novák", "Silva", "García", "Tanaka", "Larsen", "Moreau", "Schmidt", "Иванова")
_PLANS = ("free", "free", "free", "team", "business")
_PRODUCTS = ("desk lamp", "notebook", "headphones", "backpack", "tea pot", "bicycle bell", "camera", "chess set")
_POSTS = ("Ten quiet keyboards", "How we moved house", "What is new in May", "Über Fehler", "四季の料理")
_PAGES = ("home page", "pricing page", "careers page", "help page")
_TAGS = ("news", "product", "howto", "people", "sale", "python")
_WORDS = ("lamp", "blue notebook", "gift", "bell", "café", "noise cancelling", "size 42")
_ACTIONS = ("viewed", "searched", "added to cart", "bought", "signed up", "cancelled", "rated")
_WEIGHTS = (60, 12, 10, 6, 3, 2, 7)


def compose(seed: int, number: int) -> Arguments:
    """Return the trigger of a number, counted from 1."""
    random = Random(seed * 2**40 + number)
    actor = int(_PEOPLE * random.random() ** 2)  # some come often, most now and then
    identities, attributes = _person(actor)
    (action,) = random.choices(_ACTIONS, _WEIGHTS)
    obj, variables = _act(random, action)
    return Arguments(str(1000 + actor), action, obj, identities, attributes, {NUMBER: number, **variables})


@lru_cache(maxsize=_PEOPLE)
def _person(actor: int) -> tuple[dict[str, str], dict[str, Any]]:
    random = Random(actor)
    name = f"{random.choice(_FIRST)} {random.choice(_LAST)}"
    identities = {"email": f"person{actor}@example.com"}
    if random.random() < 0.2:
        identities["phone"] = f"+4930{random.randrange(10**6):06d}"
    visits, subscribed = random.randrange(1, 400), random.random() < 0.4
    return identities, {
        "name": name,
        "plan": random.choice(_PLANS),
        "visits": visits,
        "newsletter": subscribed,
    }


def _act(random: Random, action: str) -> tuple[str, dict[str, Any]]:
    """Return the object of an action, and what belongs to it."""
    if action == "viewed":
        if random.random() < 0.4:
            return random.choice(_PAGES), {"seconds": round(random.expovariate(1 / 20), 1)}
        return "blog post", {"title": random.choice(_POSTS), "tags": random.sample(_TAGS, random.randrange(4))}
    if action == "searched":
        return "shop", {"query": random.choice(_WORDS), "hits": random.randrange(60)}
    if action in ("signed up", "cancelled"):
        return random.choice(_PLANS), {"trial": random.random() < 0.5}
    product = random.choice(_PRODUCTS)
    if action == "rated":
        return product, {"stars": random.randint(1, 5)}
    price = random.randrange(500, 20000) / 100
    return product, {"price": price, "quantity": random.randint(1, 3), "gift": random.random() < 0.1}
