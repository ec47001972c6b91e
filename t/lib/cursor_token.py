# Copyright (C) nginx-gate authors

"""The other two formats, by their rules: a payload with a MAC behind a dot,
and JWS (RFC 7515) with HS256, HS384 or HS512; and many of each."""

import base64
import hashlib
import hmac
import json
import math
import re

from cursor_gen import ALPHABET, NUMBERS, Generator
from cursor_ref import LOWER_HEX, STANDARD, Malformed, compact, limits

HASHES = {'HS256': hashlib.sha256, 'HS384': hashlib.sha384,
          'HS512': hashlib.sha512}

URL = re.compile(rb'[A-Za-z0-9_-]*\Z')
NO_TIME = 'Cursor missing timestamp'
FAILED = 'Cursor signature verification failed'
LATER = 'Cursor timestamp is in the future'


def raw(cursor):
    """What the driver takes the characters for."""

    return b''.join(bytes([ord(c)]) if ord(c) < 256
                    else c.encode('utf-8', 'surrogatepass') for c in cursor)


def url_encode(data, padded=False):
    text = base64.urlsafe_b64encode(data)
    return text if padded else text.rstrip(b'=')


def url_decode(text, padded=False):
    """Base64 that has one spelling, or with its padding two."""

    bare = text

    if padded and text.endswith(b'='):
        bare = text.rstrip(b'=')
        if len(text) % 4 or len(text) - len(bare) > 2:
            raise Malformed

    if not URL.match(bare) or len(bare) % 4 == 1:
        raise Malformed

    data = base64.urlsafe_b64decode(bare + b'=' * (-len(bare) % 4))

    if url_encode(data) != bare:
        raise Malformed

    return data


def parse_object(data, rules):
    """A JSON object without equal names."""

    seen = []

    def pairs(members):
        # the outermost comes last
        seen[:] = [name for name, _ in members]
        return dict(members)

    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=pairs)
        limits(text, rules)
    except ValueError:
        raise Malformed from None

    if not isinstance(value, dict) or len(set(seen)) != len(seen):
        raise Malformed

    return value


def times(payload, names):
    """These, as floats or None."""

    found = []

    for name in names:
        value = payload.get(name)
        if name in payload:
            if type(value) not in (int, float):
                raise Malformed
            try:
                value = float(value)
            except OverflowError:
                raise Malformed from None
            if not math.isfinite(value):
                raise Malformed
        found.append(value)

    return found


def aged(rules, since):
    age = rules.now - since
    if age > rules.ttl:
        return ('expired',
                f'Cursor expired (age: {age:.1f}s, TTL: {rules.ttl}s)')
    return None


def detached(cursor, rules, mode):
    data = raw(cursor)

    if data == b'':
        return 'absent', ''

    try:
        parts = data.split(b'.')
        if len(data) > rules.length or len(parts) != 2:
            raise Malformed

        segment, sig = parts
        if LOWER_HEX.match(sig.decode('latin-1')):
            sig = bytes.fromhex(sig.decode())
        elif len(sig) == 64:
            raise Malformed
        else:
            sig = url_decode(sig, True)
        if len(sig) != 32:
            raise Malformed

        if not any(hmac.new(s.encode(), segment, hashlib.sha256).digest()
                   == sig for s in rules.secrets):
            return 'bad_signature', FAILED

        payload = parse_object(url_decode(segment, True), rules)
        ts, exp = times(payload, ('ts', 'exp'))
    except Malformed:
        return 'malformed', None

    if ts is None and exp is None:
        return 'malformed', NO_TIME

    if exp is not None and rules.now >= exp + rules.skew:
        return 'expired', 'Cursor expired'

    if ts is not None and (exp is None or rules.ttl_given):
        old = aged(rules, ts)
        if old:
            return old

    if ts is not None and mode == 'strict' and ts > rules.now + rules.skew:
        return 'future', LATER

    return 'valid', ''


def jws(cursor, rules, mode):
    data = raw(cursor)

    if data == b'':
        return 'absent', ''

    try:
        parts = data.split(b'.')
        if len(data) > rules.length or len(parts) != 3:
            raise Malformed

        header = parse_object(url_decode(parts[0]), rules)
        alg = header.get('alg')
        if 'crit' in header or not isinstance(alg, str) \
                or not isinstance(header.get('kid', ''), str):
            raise Malformed

        sig = url_decode(parts[2])
        text = parts[0] + b'.' + parts[1]
        if alg != rules.alg or not any(
                hmac.new(s.encode(), text, HASHES[alg]).digest() == sig
                for s in rules.secrets):
            return 'bad_signature', FAILED

        payload = parse_object(url_decode(parts[1]), rules)
        exp, nbf, iat = times(payload, ('exp', 'nbf', 'iat'))
    except Malformed:
        return 'malformed', None

    if exp is None and iat is None:
        return 'malformed', NO_TIME

    if exp is not None and rules.now >= exp + rules.skew:
        return 'expired', 'Cursor expired'

    if iat is not None and (exp is None or rules.ttl_given):
        old = aged(rules, iat)
        if old:
            return old

    for since in nbf, iat:
        if since is not None and rules.now < since - rules.skew:
            return 'future', LATER

    return 'valid', ''


class TokenGenerator(Generator):

    def text(self, value):
        rng = self.rng
        text = self.spell(value) if rng.randrange(4) == 0 else compact(value)
        return self.broken(text) if rng.randrange(15) == 0 else text

    def claims(self, names):
        """Some of these, and whether all is as it should be."""

        rng, rules = self.rng, self.rules
        payload = {'offset': self.offset()}

        for name in names:
            if rng.randrange(3) == 0:
                continue
            if name in ('exp', 'nbf'):
                edge = rng.choice([rules.now, rules.now - rules.skew,
                                   rules.now + rules.skew])
                payload[name] = rng.choice([
                    edge, math.nextafter(edge, math.inf), rules.now + 300,
                    math.nextafter(edge, 0), rules.now - 300,
                    int(rules.now) + 100, int(rules.now) - 100])
            else:
                payload[name] = self.stamp()
            if rng.randrange(12) == 0:
                payload[name] = rng.choice([self.value(1), self.stamp()])

        if rng.randrange(5) == 0:
            payload[self.string()] = self.value()
        if rng.randrange(12) == 0:
            payload = rng.choice([[], 1, None, 'x', [payload]])

        return self.text(payload)

    def fresh_claims(self, iat):
        rng, rules = self.rng, self.rules
        payload = {'offset': self.offset()}
        kind = rng.randrange(4)

        if kind or rules.ttl_given:
            payload[iat] = self.fresh()
        if kind != 1:
            payload['exp'] = rules.now + rng.choice([1, 300, 0.25, 10 ** 6])
        if iat == 'iat' and rng.randrange(2):
            payload['nbf'] = rules.now - rng.randrange(1000)
        if rng.randrange(3) == 0:
            payload['filters'] = {self.string(): self.value()}

        return compact(payload)

    def bytes_of(self, text):
        data = text.encode('utf-8', 'surrogatepass')
        if self.rng.randrange(30) == 0:
            data = bytearray(data + b' ')
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        return bytes(data)

    def part(self, text, padded):
        """A part of it, mostly as it should be."""

        rng = self.rng
        part = url_encode(self.bytes_of(text), padded).decode()
        kind = rng.randrange(60)

        if kind == 0:
            return part + '='
        if kind == 1:
            return part.translate(STANDARD)
        if kind == 2 and part:
            return part[:-1] + rng.choice(ALPHABET)
        if kind == 3:
            return part.rstrip('=')
        if kind == 4:
            return part + rng.choice(['\n', '!', '\0', '\u00e9', '\u20ac'])
        if kind == 5:
            return part + '=' * (-len(part) % 4)
        return part

    def ends(self, cursor):
        """What may happen to all of it."""

        rng = self.rng
        kind = rng.randrange(20)
        at = rng.randrange(len(cursor) + 1)

        if kind == 0:
            return cursor[:at] + rng.choice(ALPHABET + '.=+/') + cursor[at:]
        if kind == 1 and cursor:
            at %= len(cursor)
            return (cursor[:at] + chr(ord(cursor[at]) ^ 1 << rng.randrange(7))
                    + cursor[at + 1:])
        if kind == 2:
            return cursor[:at]
        if kind == 3:
            return rng.choice(['.', '..', '...', '. ', 'a.', '.a', cursor + '.',
                               '.' + cursor, cursor.replace('.', '..')])
        return cursor

    def detached(self):
        rng = self.rng
        good = rng.randrange(3) == 0
        padded = rng.randrange(2)

        if good:
            part = url_encode(self.fresh_claims('ts').encode(),
                              padded).decode()
        else:
            part = self.part(self.claims(('ts', 'exp')), padded)

        sig = hmac.new(self.secret().encode(), raw(part),
                       hashlib.sha256).digest()
        if rng.randrange(2):
            mac = sig.hex()
        else:
            mac = url_encode(sig, rng.randrange(2)).decode()
        cursor = part + '.' + mac

        if good:
            return cursor, len(cursor) <= 4096 and self.roomy()

        kind = rng.randrange(14)
        if kind == 0:
            cursor = part + '.' + mac.upper()
        elif kind == 1:
            cursor = part + '.' + mac[:-1] + rng.choice(ALPHABET)
        elif kind == 2:
            cursor = part + '.' + url_encode(
                rng.choice([sig[:31], sig + b'\0', b'', sig * 2])).decode()
        return self.ends(cursor), False

    def roomy(self):
        rules = self.rules
        return (rules.length, rules.depth, rules.members, rules.digits) == (
            4096, 32, 64, 4300)

    def jws(self):
        rng, rules = self.rng, self.rules
        good = rng.randrange(3) == 0
        header = {'alg': rules.alg}

        if rng.randrange(2):
            header['typ'] = 'JWT'
        if rng.randrange(4) == 0:
            header['kid'] = self.string()

        if good:
            parts = [url_encode(t.encode()).decode() for t in (
                compact(header), self.fresh_claims('iat'))]
        else:
            self.twist(header)
            parts = [self.part(self.text(header), 0),
                     self.part(self.claims(('iat', 'exp', 'nbf')), 0)]

        text = '.'.join(parts)
        alg = rules.alg if rng.randrange(20) else 'HS256'
        sig = hmac.new(self.secret().encode(), raw(text),
                       HASHES[rules.alg if good else alg]).digest()
        cursor = text + '.' + url_encode(sig).decode()

        if good:
            return cursor, len(cursor) <= 4096 and self.roomy()

        kind = rng.randrange(14)
        if kind == 0:
            cursor = text + '.' + url_encode(
                rng.choice([sig[:-1], sig + b'\0', b'', sig[::-1]])).decode()
        elif kind == 1:
            cursor = text + '.' + rng.choice([sig.hex(), '', '='])
        elif kind == 2:
            cursor = cursor[:-1] + rng.choice(ALPHABET)
        return self.ends(cursor), False

    def twist(self, header):
        rng = self.rng
        kind = rng.randrange(12)

        if kind == 0:
            header['alg'] = rng.choice(['none', 'None', 'HS256', 'HS384', 'x',
                                        'HS512', 'hs256', 'ES256', 'RS256',
                                        '', 1, None, True, [], 'EdDSA'])
        elif kind == 1:
            header[rng.choice(['crit', 'jwk', 'jku', 'x5c', 'b64', 'kid',
                               'cty'])] = self.value(1)
        elif kind == 2:
            del header['alg']
        elif kind == 3:
            header[self.string()] = rng.choice(NUMBERS)


FORMATS = {'detached': detached, 'jws': jws}
