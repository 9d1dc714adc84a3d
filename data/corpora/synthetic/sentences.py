"""The synthetic corpus's sentences: two small grammars of our own, expanded at random. No published prompt is copied.

A grammar maps a symbol to its alternatives; `{symbol}` in one is expanded in turn, `{symbol.form}` also inflected. DEMO
has 49 words that sound distinct, for a small model to learn in minutes; FULL has 1600, and TIMIT's lengths and marks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

Grammar = Mapping[str, Sequence[str]]


def _lists(text: str) -> dict[str, list[str]]:
    """Symbols and their words, out of lines "symbol: word word ..."; other lines continue the one before."""
    parts = re.split(r"(\w+):", text)
    return {symbol: words.split() for symbol, words in zip(parts[1::2], parts[2::2], strict=True)}


DEMO_SHARED = ("Martin finds six red lamps today.", "Tomorrow Emma sells forty plastic dragons.")
FULL_SHARED = (
    "Didn't your neighbor carry that old-fashioned lantern up the narrow path?",
    "Before sunrise, we packed seven dusty jars into the wagon.",
)

# fmt: off
DEMO: Grammar = {
    "sentence": [
        "{name} {verb} {number} {adjective} {noun}.",
        "{name} {verb} {number} {adjective} {noun} {when}.",
        "{when} {name} {verb} {number} {adjective} {noun}.",
    ],
    **_lists(
        """
        name: Martin Helen Victor Linda Oscar Emma Robert Susan
        verb: finds sells wants brings keeps hides paints drops
        number: six seven nine ten twenty forty
        adjective: red black yellow silver golden plastic modern purple broken
        noun: lamps boxes melons rabbits tickets buttons pencils hammers dragons bananas flags trumpets
        when: today again outside indoors downtown tomorrow
        """
    ),
}

FULL: Grammar = {
    "sentence": [
        "{subject} {did} {thing}.", "{subject} {did} {thing} {where}.", "{subject} {did} {thing} {where} {when}.",
        "{when}, {subject} {did} {thing}.", "{when}, {subject} {did} {thing} {where}.", "{subject} {went} {where}.",
        "{subject} {went} {where} {manner}.", "{subject} {manner} {did} {thing} and {did} {thing}.",
        "{subject} {did} {thing} {because} {clause}.", "{because} {clause}, {subject} {did} {thing}.",
        "{because} {clause}, {subject} {did} {thing} {where}.",
        "{when}, {subject} {did} {thing} {where}, and {clause}.",
        "{person_np} {said} that {clause} {because} {clause}.", "{subject} {did} {thing}, so {clause} {when}.",
        "{state}.", "{state}, but {clause}.", "{state} {because} {clause}.", "{person_np} {said} that {clause}.",
        "{person_np} {said} that {state}.", "{question}?", "{order}.", "{order}, {order_reason}.", "{habit}.",
        "{habit} {frequency}.", "{short}.",
    ],
    "clause": ["{subject} {did} {thing}", "{subject} {went} {where}", "{state}", "{pronoun} {modal} {do} {thing}"],
    "subject": ["{pronoun}", "{person_np}", "{person_np}", "{name}", "{name}", "{plural_np}", "{animal_np}"],
    "person_np": [
        "the {person}", "my {relative}", "our {person}", "the {quality} {person}", "{name}'s {relative}",
        "your {relative}", "a {quality} {person}", "the {person} from {town}",
    ],
    "plural_np": [
        "the {person.plural}", "{count} {quality} {person.plural}", "both {relative.plural}",
        "several {person.plural}", "the {quality} {animal.plural}", "most {person.plural}",
    ],
    "animal_np": ["the {animal}", "a {quality} {animal}", "their {colour} {animal}", "that {size} {animal}"],
    "thing": [
        "the {object}", "a {size} {object}", "the {colour} {object}", "his {object}", "her {material} {object}",
        "{count} {object.plural}", "some {food}", "the {adjective} {object}", "{count} {size} {object.plural}",
        "a {object} of {food}", "this {material} {object}", "every {object}", "a {object} and a {object}",
        "their {size} {colour} {object}", "those {object.plural}", "the {person}'s {object}",
    ],
    "did": ["{act.past}", "{act.past}", "{act.past}", "{irregular}", "{irregular}", "{modal} {do}", "had {act.past}"],
    "do": ["{act}"],
    "went": ["{move.past}", "{move.past}", "{moved}", "{modal} {move}", "and {name} {move.past}"],
    "where": [
        "{place_prep} the {place}", "{place_prep} the {place}", "{place_prep} our {size} {place}", "in {town}",
        "near {town}", "{place_prep} the {adjective} {place}", "behind the {person}'s {place}",
        "{place_prep} a {colour} {place}",
    ],
    "when": [
        "yesterday", "last {day}", "every {day}", "in {month}", "after {meal}", "before {meal}", "at {hour} o'clock",
        "this morning", "{count} {span.plural} ago", "late in the {part}", "on {day}", "early one {part}",
        "for {count} {span.plural}", "during the {event}",
    ],
    "frequency": ["every {day}", "at {hour} o'clock", "in {month}", "all {part} long", "after {meal}", "in the {part}"],
    "state": [
        "the {object} was {adjective}", "the {place} is {adjective} and {adjective}", "{name} wasn't {feeling}",
        "the {food} tasted {taste}", "the {quality} {person} seemed {feeling}", "it's {adjective} {where}",
        "the {animal.plural} were {feeling}", "the {weather} grew {adjective}",
        "{size} {object.plural} are {adjective}", "there were {count} {object.plural} {where}",
        "my {relative} is {feeling}", "the {place} looked {adjective}", "the {colour} {object} isn't {adjective}",
        "{number} {span.plural} is a long time",
    ],
    "question": [
        "did {subject} {do} {thing}", "where did {name} {do} {thing}", "why was the {object} so {adjective}",
        "can you {do} {thing} {when}", "who {did} {thing}", "when will the {person} {do} {thing}",
        "how many {object.plural} did {name} {do}", "isn't the {place} {adjective}", "have you ever seen {thing}",
        "would {name} {do} {thing} for {food}", "what did your {relative} {do} {when}",
    ],
    "order": [
        "please {do} {thing}", "don't {do} {thing} {where}", "{do} {thing} {when}", "{do} {thing} and {do} {thing}",
        "never {do} {thing}", "always {do} {thing} {manner}", "let's {do} {thing}",
    ],
    "order_reason": ["or {clause}", "and {name} will {do} {thing}", "{name}", "before {pronoun} {went} {where}"],
    "habit": [
        "{name} {act.present} {thing}", "the {person} {act.present} {thing}", "{person.plural} {do} {object.plural}",
        "{person.plural} {rarely} {do} {thing}", "{animal.plural} {rarely} {move} {where}",
        "{gerund} {object.plural} is {adjective} work", "{gerund} {thing} takes {count} {span.plural}",
    ],
    "gerund": ["{act.gerund}"],
    "short": [
        "{name} {irregular} {food}", "{person.plural} {do} {food}", "{pronoun} {modal} {move} {manner}",
        "the {food} was {taste}", "bring {thing}", "the {animal} {move.past} {manner}", "{name} looks {feeling}",
    ],
    **_lists(
        """
        pronoun: he she we they I you nobody everyone
        modal: could should would might couldn't wouldn't didn't must can't will
        said: said thought believed explained claimed insisted whispered announced remembered noticed hoped
        place_prep: in near behind beside across around inside above beyond past through under outside
        because: because although while until whenever since before after unless
        manner: quietly slowly quickly gladly rarely often carefully suddenly proudly gently nearly always happily
            eagerly calmly bravely politely silently secretly patiently nervously lazily
        number: twenty thirty forty fifty sixty twenty-one thirty-five forty-six fifty-two ninety
        rarely: rarely often seldom never usually sometimes
        name: Alice Barbara Carol Daniel Edith Frank George Harriet Irene Jacob Karen Leonard Margaret Nathan Olivia
            Patrick Rachel Samuel Theresa Ursula Vincent Walter Yvonne Arnold Beatrice Clara Dorothy Ernest Felix Gloria
            Howard Isabel Julia Kevin Laura Martin Nancy Oscar Philip Robert Susan Thomas Victor
        town: Boston Denver Chicago Madrid Berlin Lisbon Dublin Memphis Atlanta Toronto Vienna Oslo Cairo Sydney London
            Florida Nevada Kansas Oregon Moscow Geneva
        relative: mother father sister brother uncle aunt cousin nephew niece grandmother grandfather daughter son
            neighbor roommate partner
        person: teacher doctor farmer baker sailor painter carpenter driver lawyer plumber singer tailor captain soldier
            student scientist engineer writer butcher gardener miner actor dentist banker mayor judge pilot waiter
            librarian mechanic musician nurse officer professor reporter secretary shepherd surgeon tourist traveler
            umpire violinist widow worker youngster accountant architect astronomer barber chemist clerk coach cook
            detective editor guard hunter inventor janitor manager merchant poet priest ranger senator sheriff skater
            stranger tenant typist visitor wizard
        animal: dog cat horse cow rabbit turtle pigeon squirrel donkey monkey tiger camel lizard beaver eagle parrot
            spider falcon otter badger puppy kitten pony goat rooster dolphin elephant giraffe hamster leopard panther
            penguin raccoon seagull weasel
        object: basket lantern hammer ladder bottle blanket pencil carpet mirror kettle candle bucket wagon jacket
            ribbon button shovel hat pillow cabinet camera clock coin cradle cup curtain desk diary doll drum engine
            envelope fence flag flute fork guitar helmet hook jar jewel key knot lamp letter magazine map mask medal
            motor napkin needle newspaper notebook oar oven paddle page painting parcel photograph piano picture pipe
            plank plate pocket postcard poster pump puzzle quilt radio raft rope ruler saddle sail sandal scarf shirt
            signal skirt sled sofa spoon stamp statue stool suitcase sweater sword table telescope tent ticket towel
            tractor tray trophy trumpet trunk tunnel typewriter umbrella uniform vase vest violin wallet wheel whistle
            window wrench yacht zipper anchor apron armchair bandage barrel bicycle bracelet brush calendar canoe chain
            chimney collar compass computer cork counter cushion document elevator fan faucet feather funnel glove gown
            hinge hose icon journal kite lever locket magnet manuscript mattress microscope necklace orchid package
            pebble pencil-case pendulum pistol platform propeller receipt rifle satchel scooter screwdriver shelter
            shutter siphon sponge stapler stencil tablecloth textbook thermometer timer toaster trolley turbine valve
            wardrobe
        food: bread butter cheese rice soup honey pepper sugar coffee lemonade chocolate pudding spinach cabbage garlic
            ginger vinegar mustard celery broccoli lettuce salmon bacon chicken turkey ham gravy cinnamon vanilla syrup
            porridge yogurt toast cider popcorn macaroni spaghetti salad parsley oatmeal custard marmalade
        material: wooden silver copper golden leather plastic paper rubber cotton woolen marble brass silk iron velvet
            bamboo crystal ivory canvas pewter
        size: small large tiny narrow wide heavy little enormous thin thick short tall long giant compact
        colour: red green yellow purple orange brown black white pink gray crimson blue-green dark-blue turquoise violet
            scarlet amber
        quality: old young clever friendly famous careful honest lazy noisy nervous patient polite proud quiet rich shy
            stubborn tired well-known left-handed cheerful gentle foreign local modern ordinary popular peculiar
            remarkable serious splendid strange sturdy stylish unusual valuable vigorous wealthy handsome hard-working
            absent-minded energetic ambitious generous
        adjective: dusty broken empty crowded expensive dangerous difficult easy beautiful ugly sticky slippery bright
            dark damp dry frozen dirty filthy gloomy muddy peaceful pleasant rough rusty smooth steep useful useless
            warm windy complete necessary impossible simple obvious temporary unfinished fragile costly half-empty
            old-fashioned attractive comfortable familiar important mysterious practical reliable spacious suspicious
            tidy visible
        feeling: happy hungry thirsty angry grateful curious sleepy afraid ashamed bored calm confused content eager
            excited jealous lonely puzzled ready satisfied surprised unhappy upset worried exhausted optimistic
            confident
        taste: bitter sweet salty delicious awful spicy stale fresh bland burned wonderful odd
        place: kitchen garden market harbor forest village library museum station theater factory hospital school bridge
            river valley mountain meadow island desert highway tunnel airport hotel restaurant bakery castle cathedral
            cellar attic balcony barn basement beach canyon cave church corridor cottage courtyard farm field fountain
            gallery garage gate hallway hill jungle lake laboratory lobby mansion monument orchard palace park pasture
            pavement pool porch prison ranch reservoir shop stable stadium swamp temple terrace tower university
            warehouse waterfall workshop office classroom cabin
        meal: breakfast lunch dinner supper
        event: concert storm festival wedding meeting parade lecture election holiday funeral drought ceremony
            performance tournament conference
        weather: weather wind sky evening air fog rain thunder
        day: Monday Tuesday Wednesday Thursday Friday Saturday Sunday
        month: January February March April June July August September October November December
        part: morning afternoon evening
        span: minute hour day week month year
        hour: two three five six seven nine ten eleven
        count: two three four five six seven nine ten eleven twelve thirteen fifteen twenty forty fifty several
        act: paint clean open borrow collect repair carry wash polish move follow admire remember describe watch examine
            purchase order deliver inspect measure ignore destroy discover display exchange finish gather guard handle
            help imagine inherit invent kick label lift lock mention mix notice offer pack pass photograph pick place
            pull push raise reach receive remove rescue return save search select serve share smell sort store study
            support taste touch trade trust visit want weigh wipe abandon accept approach arrange avoid cover demand
            design donate enjoy expect favor fasten hammer insure memorize need observe obtain organize pawn prepare
            present preserve press produce protect prove recommend recognize reject rent replace require restore sample
            scratch sketch steam unload unlock value
        irregular: bought sold found lost brought took kept built made threw gave held chose drew forgot hid left met
            saw sent shook stole taught wore caught
        move: walk jump climb wander hurry march sail row travel race gallop crawl dance work wait stay relax rest play
            return retire camp exercise fish gaze listen linger parachute sneeze
        moved: ran swam slept stood sat rode flew fell drove knelt
        """
    ),
}
# fmt: on


def _past(verb: str) -> str:
    return verb + "d" if verb.endswith("e") else verb[:-1] + "ied" if re.search(r"[^aeo]y$", verb) else verb + "ed"


def _add_s(word: str) -> str:
    """Plural of a noun, or third person of a verb."""
    if re.search(r"[^aeo]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|sh|ch)$", word) else "s")


def _gerund(verb: str) -> str:
    return (verb[:-1] if verb.endswith("e") else verb) + "ing"


INFLECTIONS: dict[str, Callable[[str], str]] = {"past": _past, "plural": _add_s, "present": _add_s, "gerund": _gerund}


def expand(grammar: Grammar, rng: random.Random, template: str = "{sentence}") -> str:
    """`template` with every `{symbol}` and `{symbol.form}` replaced by a random expansion."""

    def replace(match: re.Match[str]) -> str:
        symbol, _, form = match[1].partition(".")
        text = expand(grammar, rng, rng.choice(grammar[symbol]))
        return INFLECTIONS[form](text) if form else text

    return re.sub(r"\{([a-z_.]+)\}", replace, template)


def sentence(grammar: Grammar, rng: random.Random, num_letters: float | None = None) -> str:
    """A random sentence, the one of 24 that comes nearest to `num_letters` characters where that is given."""
    candidates = [expand(grammar, rng) for _ in range(24 if num_letters else 1)]
    text = min(candidates, key=lambda candidate: abs(len(candidate) - (num_letters or 0)))
    text = re.sub(r"\b([Aa]) (?=(?!uni|use)[aeiou]|honest)", r"\1n ", text)
    return text[0].upper() + text[1:]
