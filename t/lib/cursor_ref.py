#!/usr/bin/python3

# Copyright (C) nginx-gate authors

"""Cursors as a service in Python signs and verifies them, and many of them.

For tests: written from the rules, with nothing of the module in it, so that
the two can be compared.

    cursor_ref.py vectors FILE      the rules here against recorded answers
    cursor_ref.py selftest          this file against CPython's own base64
    cursor_ref.py diff --driver PATH --count N [--seed S] [--show N]
                                    generates cursors, asks the driver and the
                                    rules, prints what differs and a summary
             .. --issued            none but fresh ones of the service
             .. --format F          detached or jws
    cursor_ref.py time --count N    ns for each verification of CPython

What the module refuses although the service would not, the holes: bytes
outside of the alphabets, data after a "=", a "ts" that is NaN or Infinity,
and what is over the limits.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time

LOWER_HEX = re.compile(r'[0-9a-f]{64}\Z')
ALPHABETS = re.compile(r'[A-Za-z0-9+/_-]*=*\Z')
STANDARD = str.maketrans('-_', '+/')

# CPython's own limit, wherever this runs
if hasattr(sys, 'set_int_max_str_digits'):
    sys.set_int_max_str_digits(4300)


class Malformed(Exception):
    pass


class Rules:
    """How one call of the driver is told to verify."""

    def __init__(self, secrets, now, ttl=600, skew=60, claims=(),
                 length=4096, depth=32, members=64, digits=4300):
        self.secrets = secrets
        self.now = float(now)   # time.time() is one
        self.ttl = ttl
        self.skew = skew
        self.claims = claims
        self.length = length
        self.depth = depth
        self.members = members
        self.digits = digits
        self.format = 'envelope'
        self.alg = 'HS256'
        self.ttl_given = True

    def token(self, name, rng):
        """Of another format, with what only that one knows."""

        self.format = name
        if name == 'jws':
            self.alg = rng.choice(['HS256', 'HS384', 'HS512'])
        if rng.randrange(2):
            self.ttl_given = False
            self.ttl = 600

    def args(self):
        args = ['--now', repr(self.now), '--skew', str(self.skew),
                '--format', self.format]
        if self.alg != 'HS256':
            args += ['--alg', self.alg]
        if self.ttl_given:
            args += ['--ttl', str(self.ttl)]
        for secret in self.secrets:
            args += ['--secret', secret]
        for name in self.claims:
            args += ['--claim', name]
        return args + ['--max-length', str(self.length),
                       '--max-depth', str(self.depth),
                       '--max-members', str(self.members),
                       '--max-digits', str(self.digits)]


# The issuing side.

def compact(value):
    return json.dumps(value, separators=(',', ':'))


def signed_form(payload):
    return json.dumps(payload, separators=(',', ':'), sort_keys=True)


def mac(secret, text):
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def encode(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


def issue(secret, payload):
    return encode(compact({'payload': payload,
                           'sig': mac(secret, signed_form(payload))}))


# The verifying side.

def decode(cursor):
    """The lax base64, less what it skips."""

    if not ALPHABETS.match(cursor):
        raise Malformed

    data = cursor.rstrip('=')
    left = len(data) % 4

    if left == 1 or (left and len(cursor) - len(data) < 4 - left):
        raise Malformed

    return base64.b64decode(data.translate(STANDARD) + '=' * (-left % 4))


class Counted(dict):
    depth = 0


def depth_of(value):
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, Counted):
        return value.depth
    return 0


def limits(text, rules):
    """Refuses what is too deep, too wide or too long, also where a later
    member of the same name hides it."""

    if (text.count('[') + text.count('{') <= rules.depth
            and text.count(':') <= rules.members
            and len(text) <= rules.digits):
        return

    def pairs(members):
        if len(members) > rules.members:
            raise Malformed
        counted = Counted(members)
        counted.depth = 1 + max((depth_of(v) for _, v in members), default=0)
        return counted

    def integer(digits):
        if len(digits.lstrip('-')) > rules.digits:
            raise Malformed
        return int(digits)

    if depth_of(json.loads(text, object_pairs_hook=pairs,
                           parse_int=integer)) > rules.depth:
        raise Malformed


def parse(cursor, rules):
    """The text of the cursor, and what is in it."""

    try:
        text = decode(cursor).decode('utf-8')
        data = json.loads(text)
        limits(text, rules)
    except ValueError:
        raise Malformed from None
    except RecursionError:
        raise Malformed from None

    return text, data


def compat(cursor, rules):
    """Status and text, None where the text is the module's own, and what
    strict wants to know."""

    if cursor == '':
        return 'absent', '', None

    none = ('malformed', None, None)

    if len(cursor.encode('utf-8', 'surrogatepass')) > rules.length:
        return none

    try:
        text, data = parse(cursor, rules)
    except Malformed:
        return none

    if not isinstance(data, dict):
        return none

    for name in 'payload', 'sig':
        if name not in data:
            return ('malformed', f"Cursor missing required field: '{name}'",
                    None)

    payload, sig = data['payload'], data['sig']

    if not isinstance(sig, str) or not sig.isascii():
        return none

    form = signed_form(payload)
    if not any(hmac.compare_digest(sig, mac(secret, form))
               for secret in rules.secrets):
        return 'bad_signature', 'Cursor signature verification failed', None

    if not isinstance(payload, dict):
        return none

    return judge(payload, rules) + ((text, data),)


def judge(payload, rules):
    ts = payload.get('ts')

    if ts is None:
        return 'malformed', 'Cursor missing timestamp'

    if not isinstance(ts, (int, float)) or ts != ts or ts == float('inf'):
        return 'malformed', None

    try:
        age = rules.now - ts
    except OverflowError:
        return 'malformed', None

    if age > rules.ttl:
        return ('expired',
                f'Cursor expired (age: {age:.1f}s, TTL: {rules.ttl}s)')

    offset = payload.get('offset')

    if not isinstance(offset, int) or offset < 0:
        return 'malformed', 'Invalid offset in cursor'

    return 'valid', ''


def issuable(cursor, text, data, claims):
    """Whether the service could have made just this cursor."""

    if encode(text) != cursor or compact(data) != text:
        return False

    if list(data) != ['payload', 'sig'] or not LOWER_HEX.match(data['sig']):
        return False

    payload = data['payload']
    names = list(payload)

    if names[:2] != ['offset', 'ts']:
        return False

    if type(payload['offset']) is not int or payload['offset'] < 0:
        return False

    if type(payload['ts']) not in (int, float):
        return False

    own = [name for name in names[2:] if name not in claims]

    if own not in ([], ['order_by'], ['filters'], ['order_by', 'filters']):
        return False

    return all(payload[name] is not None for name in own)


def strict(cursor, rules, answer):
    status, text, more = answer

    if status != 'valid':
        return status, text

    if not issuable(cursor, *more, rules.claims):
        return 'malformed', None

    if more[1]['payload']['ts'] > rules.now + rules.skew:
        return 'future', 'Cursor timestamp is in the future'

    return 'valid', ''


def envelope(cursor, rules, mode):
    answer = compat(cursor, rules)
    return answer[:2] if mode == 'compat' else strict(cursor, rules, answer)


# The service's own, without a wall.

def served(cursor, rules):
    """The status, as a service has it that knows nothing of ours."""

    if cursor == '':
        return 'absent'

    try:
        data = json.loads(base64.urlsafe_b64decode(
            cursor.encode('utf-8')).decode('utf-8'))
        payload, sig = data['payload'], data['sig']
        form = signed_form(payload)

        if not any([hmac.compare_digest(sig, mac(secret, form))
                    for secret in rules.secrets]):
            return 'bad_signature'

        ts = payload.get('ts')
        if ts is None:
            return 'malformed'
        if rules.now - ts > rules.ttl:
            return 'expired'

        offset = payload.get('offset')
        if not isinstance(offset, int) or offset < 0:
            return 'malformed'
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError,
            RecursionError):
        return 'malformed'

    return 'valid'


def hole(cursor, rules):
    """Why it is malformed here and not there."""

    if not ALPHABETS.match(cursor):
        return 'foreign bytes' if not re.match(r'[A-Za-z0-9+/_=-]*\Z', cursor) \
            else 'data after "="'

    if len(cursor) > rules.length:
        return 'too long'

    try:
        ts = parse(cursor, rules)[1]['payload']['ts']
    except Malformed:
        return 'over a limit'

    return 'ts not finite' if ts != ts or ts == float('inf') else None


# Checks of this file.

def vectors(path):
    with open(path, encoding='utf-8') as file:
        recorded = json.load(file)

    # laxity that is a hole
    holes = {'b64:! inside', 'b64:% inside', 'b64:newline inside',
             'b64:trailing garbage after =',
             'payload(signed by re-serialisation):ts Infinity'}

    rules = Rules([recorded['secret']], recorded['now'],
                  recorded['ttl_seconds'])
    prefix = 'Invalid cursor: '
    wrong = 0

    for vector in recorded['vectors']:
        status, text, more = compat(vector['cursor'], rules)
        want = vector['reason'].partition('_untyped')[0]

        # these two are over the limits
        if vector['name'].startswith('dos:') or vector['name'] in holes:
            want = 'malformed'

        good = status == want

        if text and prefix + text != vector['detail']:
            good = False

        if status == 'valid' and 'canonical_payload' in vector:
            good &= (signed_form(more[1]['payload'])
                     == vector['canonical_payload'])

        # strict takes what the service issued and takes back, no more
        issued = (vector['issued_by_service']
                  or vector['name'] == 'b64:no pad natural')
        if status == 'valid':
            if vector['name'].endswith(('future 1h', 'ts year 3000')):
                want = 'future'
            else:
                want = 'valid' if issued else 'malformed'
        status = strict(vector['cursor'], rules, (status, text, more))[0]
        good &= status == want

        if not good:
            wrong += 1
            print(f"{vector['name']}: {status}, {text}")

    print(f"{len(recorded['vectors'])} vectors, {wrong} differ")
    return wrong != 0


def selftest():
    """The base64 of the rules is CPython's, where there is no hole."""

    import random

    rng = random.Random(1)
    wrong = 0

    for _ in range(20000):
        text = ''.join(rng.choice('Ab0-_+/') for _ in range(rng.randrange(12)))
        text += '=' * rng.randrange(6)

        try:
            want = base64.urlsafe_b64decode(text)
        except ValueError:
            want = None

        try:
            got = decode(text)
        except Malformed:
            got = None

        if got != want:
            wrong += 1
            print(text, got, want)

    print(f'20000 texts, {wrong} differ')
    return wrong != 0


def clock(count):
    """What CPython takes for the cursors of a service."""

    import random
    from statistics import median

    from cursor_gen import Generator

    now = 1760493130.25
    rules = Rules(['test-cursor-secret-for-pagination-0'], now)
    rng = random.Random(1)
    gen = Generator(rng, rules)

    for what, filters in ('envelope issued', 0), ('with filters', 1):
        cursors = [gen.usual(filters) for _ in range(count)]
        taken = []

        for cursor in cursors:
            start = time.perf_counter_ns()
            plain(cursor, rules)
            taken.append(time.perf_counter_ns() - start)

        start = time.perf_counter_ns()
        for cursor in cursors:
            plain(cursor, rules)
        mean = (time.perf_counter_ns() - start) / count

        print(f'CPython, {what}: {median(taken):.0f} {mean:.0f}')

    return 0


def plain(cursor, rules):
    """The verifier as a service has it, without the holes' walls."""

    data = json.loads(base64.urlsafe_b64decode(cursor.encode()).decode())
    payload = data['payload']
    sig = data['sig']

    if not hmac.compare_digest(sig, mac(rules.secrets[0],
                                        signed_form(payload))):
        raise Malformed

    ts = payload.get('ts')
    if ts is None or rules.now - ts > rules.ttl:
        raise Malformed

    offset = payload.get('offset')
    if not isinstance(offset, int) or offset < 0:
        raise Malformed

    return payload


def main(argv):
    if len(argv) == 3 and argv[1] == 'vectors':
        return vectors(argv[2])

    if argv[1:] == ['selftest']:
        return selftest()

    if len(argv) == 4 and argv[1:3] == ['time', '--count']:
        return clock(int(argv[3]))

    if len(argv) > 1 and argv[1] == 'diff':
        from cursor_diff import run
        return run(argv[2:])

    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    # this file is one module, however it is started
    sys.modules['cursor_ref'] = sys.modules['__main__']
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv))
