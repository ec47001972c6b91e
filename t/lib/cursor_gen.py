# Copyright (C) nginx-gate authors

"""Cursors of all kinds: issued ones, ones that are spelled oddly and signed
all the same, and hostile ones."""

import base64
import decimal
import json
import math
import struct

from cursor_ref import STANDARD, compact, encode, issue, mac, signed_form

HUGE = 10 ** 30

# what a text of JSON is made of
SOUP = ['{', '}', '[', ']', ',', ':', '"', ' ', '\t', '\n', '\r', '\f', '\v',
        '0', '1', '-', '+', '.', 'e', 'E', '00', '-0', '1e5', '1E+400', '1.0',
        'null', 'true', 'false', 'NaN', 'Infinity', '-Infinity', '-NaN', 'nul',
        '"a"', '"\\u0061"', '"\\ud800"', '"\\x"', '"\\u00g0"', '\\', '\\u',
        '"payload"', '"sig"', '"ts"', '"offset"', '\0', '\x1f', '\x7f',
        '\u00e9', '\u2028', '\U0001f600', '\ufeff', '//', "'", '{}', '[]']

ALPHABET = ('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
            '0123456789-_')

WORDS = ['a', 'b', 'id', 'key', 'name', 'city', 'min', 'max', 'Zoe', 'zoe',
         'order_by', 'filters', 'offset', 'ts', 'payload', 'sig', '', '0',
         'S\u00e3o Paulo', '\u6771\u4eac', '\U0001f600', '\uffff', '\ue000']

# what looks like a number, or is one, or was one
NUMBERS = ['0', '-0', '00', '01', '-01', '+1', '1.', '.5', '1.0', '1.50',
           '1e5', '1E5', '1e+05', '1e05', '1e+16', '1e16', '1e-07', '1e-7',
           '1e', '1e+', '-', '', '1_0', '0x10', '1.0.0', '1 ', ' 1', '1\t',
           '0.0', '-0.0', '10000000000000000.0', '1e400', '-1e400', 'NaN',
           'Infinity', '-Infinity', 'true', 'null', '"1"', '[]', '5e-324',
           '2e-324', '1.7976931348623157e+308', '1.7976931348623157e308',
           '1e22', '1e+22', '9007199254740993', '9007199254740993.0',
           '123456789012345678.0', '0.1', '0.10', '0.0001', '1e-4', '1e-05',
           '0.00001', '\u0661', '1' * 30, '1' * 23 + '.5', '1760493100',
           '1760493100.0', '1760493069.75', '1760493069.750',
           '17604930697.5e-1', '1.76049306975e9', '1.76049306975e+09',
           '1760493069.7500001', '1760493069.75000001', '1760493069.7499999',
           '1760493069.74999999']

# no UTF-8, or only nearly
BYTES = [b'\xc0\x80', b'\xc1\xbf', b'\xe0\x80\x80', b'\xe0\x9f\xbf',
         b'\xed\xa0\x80', b'\xed\xbf\xbf', b'\xf0\x80\x80\x80',
         b'\xf0\x8f\xbf\xbf', b'\xf4\x90\x80\x80',
         b'\xf5\x80\x80\x80', b'\xf8\x88\x80\x80\x80', b'\x80', b'\xbf',
         b'\xe2\x82', b'\xf0\x9f',
         b'\xf0\x9f\x98', b'\xc3', b'\xfe', b'\xff', b'\xed\x9f\xbf',
         b'\xee\x80\x80', b'\xef\xbf\xbf', b'\xf4\x8f\xbf\xbf',
         b'\xc2\x80',
         b'\xdf\xbf', b'\xe0\xa0\x80', b'\xf0\x90\x80\x80', b'\xef\xbb\xbf']

SPACES = ['', '', '', ' ', '\t', '\n', '\r', '  ', '\r\n']


class Generator:

    def __init__(self, rng, rules):
        self.rng = rng
        self.rules = rules

    def secret(self):
        return self.rng.choice(self.rules.secrets)

    # values

    def bits(self):
        return struct.unpack('<d', self.rng.randbytes(8))[0]

    def real(self):
        """A float of any kind, not of any size alike."""

        rng = self.rng
        kind = rng.randrange(10)

        if kind == 0:
            return self.bits()
        if kind == 1:
            return math.ldexp(1, rng.randrange(-1074, 1024))
        if kind == 2:
            return rng.choice([0.0, -0.0, 5e-324, 1e16, 1e-4, 1e-5, 1e15,
                               9007199254740993.0, 1e22, 1e23, 1e21, 1e100,
                               2.2250738585072014e-308, 123456789012345680.0,
                               1.7976931348623157e308, 9999999999999998.0])
        if kind == 3:
            return math.nextafter(math.ldexp(1, rng.randrange(-1074, 1024)),
                                  rng.choice([-math.inf, math.inf]))
        if kind == 4:
            return rng.randrange(10 ** 6) / 100
        if kind == 5:
            return float(rng.randrange(-10 ** 17, 10 ** 17))
        if kind == 6:
            return round(rng.uniform(-180, 180), 6)
        if kind == 7:
            return rng.randrange(1, 10 ** 17) * 10.0 ** rng.randrange(-30, 30)
        if kind == 8:
            return rng.choice([math.nan, math.inf, -math.inf])
        return rng.random()

    def integer(self):
        rng = self.rng
        kind = rng.randrange(6)

        if kind == 0:
            return rng.randrange(-10, 10)
        if kind == 1:
            return rng.choice([-1, 1]) * rng.getrandbits(rng.randrange(1, 80))
        if kind == 2:
            return (1 << rng.choice([31, 32, 53, 63, 64])) + rng.randrange(-2,
                                                                           2)
        if kind == 3:
            return rng.choice([-1, 1]) * 10 ** rng.randrange(40)
        if kind == 4 and not rng.randrange(30):
            return rng.getrandbits(rng.randrange(900, 3000))
        return rng.randrange(1000000)

    def offset(self):
        rng = self.rng
        kind = rng.randrange(8)

        if kind == 0:
            return rng.choice([0, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1,
                               1 << 63, 1 << 64, HUGE])
        if kind == 1:
            return rng.getrandbits(rng.randrange(1, 200))
        return rng.randrange(0, 10000, 50)

    def fresh(self):
        """A ts that is neither expired nor in the future."""

        rng, rules = self.rng, self.rules
        low = rules.now - rules.ttl
        high = rules.now + rules.skew
        kind = rng.randrange(8)

        if kind == 0:
            # just not expired, and just not in the future
            return rng.choice([low, high])
        if kind == 1:
            return math.floor(rng.uniform(low + 1, high))
        if kind == 2:
            return float(math.floor(rng.uniform(low + 1, high)))
        if kind == 3:
            return math.floor(rng.uniform(low + 1, high) * 4) / 4
        if kind == 4:
            return round(rng.uniform(low + .01, high - .01), rng.randrange(
                2, 7))
        return min(max(rng.uniform(low, high), low), high)

    def stamp(self):
        """A ts of any kind."""

        rng, rules = self.rng, self.rules
        kind = rng.randrange(9)

        if kind == 0:
            return self.real()
        if kind == 1:
            return self.integer()
        if kind == 2:
            edge = rules.now - rng.choice([rules.ttl, -rules.skew])
            return math.nextafter(edge, rng.choice([-math.inf, math.inf]))
        if kind == 5:
            # ages of all fractions, some of them halfway
            age = rules.ttl + rng.choice([rng.randrange(10 ** 5) / 20,
                                          rng.uniform(0, 1000),
                                          rng.uniform(0, 1e12)])
            return rules.now - age
        if kind == 3:
            return rules.now + rng.choice([3600, -3600, 86400, 61, -601.0])
        if kind == 4:
            return rng.choice([True, False, None, '1760493100', [], {},
                               10 ** 400, -10 ** 400, 10 ** 308, 1 << 1023,
                               (1 << 1024) - (1 << 970), math.nan, math.inf,
                               (1 << 1024) - (1 << 970) - 1, -math.inf, -0.0])
        return self.fresh()

    def string(self):
        rng = self.rng
        kind = rng.randrange(8)

        if kind < 3:
            return rng.choice(WORDS)
        if kind == 3:
            return ''.join(map(chr, rng.choices(range(128),
                                                k=rng.randrange(12))))
        if kind == 4:
            return ''.join(rng.choices('"\\/\b\f\n\r\t\x7f\x00\x1f\x80\u2028<>',
                                       k=rng.randrange(8)))
        if kind == 5:
            # lone surrogates, and pairs that are none when they are joined
            return ''.join(rng.choices('\ud800\udbff\udc00\udfff\ue000\ud7ffa',
                                       k=rng.randrange(5)))
        if kind == 6:
            return ''.join(chr(rng.randrange(0x110000))
                           for _ in range(rng.randrange(5)))
        return ''.join(rng.choices(ALPHABET, k=rng.randrange(40)))

    def name(self):
        """Of a member, as a dict of Python may have it."""

        rng = self.rng
        kind = rng.randrange(40)

        if kind == 0:
            return rng.randrange(10)
        if kind == 1:
            return rng.randrange(1000)
        if kind == 2:
            return rng.choice([True, False, None])
        if kind == 3:
            return self.real()
        return self.string()

    def value(self, depth=3):
        rng = self.rng
        kind = rng.randrange(12 if depth else 9)

        if kind < 3:
            return self.string()
        if kind < 5:
            return self.integer()
        if kind < 7:
            return self.real()
        if kind < 9:
            return rng.choice([True, False, None])
        if kind == 9:
            return [self.value(depth - 1) for _ in range(rng.randrange(4))]
        return self.members(depth - 1)

    def members(self, depth=2):
        rng = self.rng
        names = [self.name() for _ in range(rng.randrange(5))]

        if rng.randrange(20) == 0:
            names = rng.sample(range(20), rng.randrange(5))

        return {name: self.value(depth) for name in names}

    def payload(self, ts):
        """As the service makes them."""

        rng = self.rng
        payload = {'offset': self.offset(), 'ts': ts}
        kind = rng.randrange(6)

        if kind in (3, 5):
            payload['order_by'] = self.string()
        if kind in (4, 5):
            payload['filters'] = self.members()
        if self.rules.claims and rng.randrange(4) == 0:
            payload[rng.choice(self.rules.claims)] = self.value(1)

        return payload

    # spellings

    def number(self, value):
        """The number in some other way that reads as it."""

        rng = self.rng

        if value == 0 or not math.isfinite(value):
            if value == math.inf:
                return rng.choice(['1e400', '1E+309', 'Infinity',
                                   '1.7976931348623159e308', '9' * 310 + '.0'])
            if value != value:
                return 'NaN'
            return rng.choice(['0.0', '-0.0', '0e5', '0E-0', '-0e-999', '0.00',
                               '1e-400', '-1e-400', '0e999999999999999999999'])

        exact = decimal.Decimal(value)
        kind = rng.randrange(8)

        if kind == 0:
            return f'{value:.17e}'.replace('e', rng.choice('eE'))
        if kind == 1:
            text = repr(value)
            return text if 'e' in text else text + '0' * rng.randrange(1, 4)
        if kind == 2:
            return f'{exact:e}'
        if kind == 3:
            with decimal.localcontext() as context:
                context.prec = 2000
                other = decimal.Decimal(math.nextafter(value, math.inf))
                half = (exact + other) / 2
                if rng.randrange(3):
                    half *= 1 + decimal.Decimal(rng.choice([-1, 1])).scaleb(
                        -rng.randrange(20, 800))
                return f'{half:e}'
        if kind == 4 and abs(exact.adjusted()) < 60:
            return f'{exact:f}' + ('' if '.' in f'{exact:f}' else '.0')
        if kind == 5:
            text = f'{value:.17e}'
            mantissa, _, exponent = text.partition('e')
            return mantissa + 'e' + exponent[0] + '000' + exponent[1:]
        if kind == 6:
            return f'{value:.{rng.randrange(15, 40)}e}'
        return repr(value)

    def escaped(self, text):
        rng = self.rng
        out = []

        for char in text:
            kind = rng.randrange(8)

            if char < ' ' or char in '"\\' or '\ud800' <= char <= '\udfff' \
                    or kind == 0:
                code = json.dumps(char)[1:-1]
                if kind == 0 and char < '\x80':
                    code = f'\\u{ord(char):04x}'
                if rng.randrange(2) and code.startswith('\\u'):
                    code = code.replace('\\u', '.').upper().replace('.', '\\u')
                out.append(code)
            elif kind == 1 and char == '/':
                out.append('\\/')
            elif kind == 2:
                out.append(json.dumps(char)[1:-1])
            else:
                out.append(char)

        return '"' + ''.join(out) + '"'

    def spell(self, value):
        """JSON that reads as the value, in a way nobody would print it."""

        rng = self.rng
        space = rng.choice(SPACES)

        if isinstance(value, dict):
            items = [(json.loads(compact({k: 0}).replace(':0}', ']').replace(
                '{', '[', 1))[0], v) for k, v in value.items()]
            if rng.randrange(3) == 0:
                rng.shuffle(items)
            if items and rng.randrange(6) == 0:
                name = rng.choice(items)[0]
                items.insert(rng.randrange(len(items) + 1),
                             (name, self.value(1)))
            parts = [rng.choice(SPACES) + self.escaped(k) + space + ':'
                     + self.spell(v) for k, v in items]
            return '{' + ','.join(parts) + space + '}'

        if isinstance(value, list):
            return '[' + ','.join(map(self.spell, value)) + space + ']'

        if isinstance(value, str):
            text = self.escaped(value)
        elif isinstance(value, float) and rng.randrange(2):
            text = self.number(value)
        elif value == 0 and rng.randrange(2):
            text = '-0' if value is not False else 'false'
        else:
            text = compact(value)

        return space + text + rng.choice(SPACES)

    # cursors

    def usual(self, filters):
        """What a route of the service issues; for the clocks."""

        rng = self.rng
        payload = {'offset': rng.randrange(0, 10000, 50),
                   'ts': self.rules.now - rng.random() * 500}
        if filters:
            payload['order_by'] = 'created_at'
            payload['filters'] = {
                'city': rng.choice(['S\u00e3o Paulo', 'Berlin']),
                'min_price': rng.randrange(40000) / 100,
                'status': ['active', 'pending'], 'guests': rng.randrange(9)}

        return issue(self.secret(), payload)

    def issued(self):
        """One that the service takes back, or (None, None)."""

        payload = self.payload(self.fresh())

        try:
            cursor = issue(self.secret(), payload)
            again = json.loads(compact(payload))
            if signed_form(again) != signed_form(payload):
                return None
        except TypeError:
            return None

        # names of members may become equal, and there are caps
        if compact(again) != compact(payload) or len(cursor) > 4096:
            return None

        now, ts = self.rules.now, payload['ts']
        if now - ts > self.rules.ttl or ts > now + self.rules.skew:
            return None
        if self.rules.digits < 4300 or self.rules.length < 4096 \
                or self.rules.members < 64 or self.rules.depth < 32:
            return None

        return cursor

    def odd(self):
        """An envelope whose parts are odd, more often signed than not."""

        rng = self.rng
        payload = self.strange()

        try:
            text = (self.spell(payload) if rng.randrange(3)
                    else compact(payload))
            if rng.randrange(5) == 0:
                text = self.broken(text)
            form = signed_form(json.loads(text))
        except (TypeError, ValueError):
            form = text = compact(rng.choice(['x', [], None, 1]))

        # over what was received: right only where nothing is odd
        if rng.randrange(12) == 0:
            form = text

        sig = mac(self.secret(), form)
        return self.wrapped(self.envelope(text, sig))

    def near(self):
        """Nearly what every route issues."""

        rng = self.rng
        pair = [rng.choice(NUMBERS), rng.choice(NUMBERS)]
        kind = rng.randrange(5)

        if kind < 2:
            pair[0] = compact(self.offset())
        elif kind < 4:
            stamp = self.fresh()
            pair[1] = (self.number(stamp) if isinstance(stamp, float)
                       else compact(stamp))

        text = '{"offset":%s,"ts":%s}' % tuple(pair)

        if rng.randrange(8):
            return self.signed(text)
        return encode('{"payload":%s,"sig":"%s"}' % (
            text, mac(self.secret(), text)))

    def strange(self):
        """A payload, less what it needs or with what it does not."""

        rng = self.rng
        payload = self.payload(self.stamp())
        kind = rng.randrange(12)

        if kind == 0:
            del payload[rng.choice(list(payload))]
        elif kind == 1:
            payload[rng.choice(list(payload))] = self.value(1)
        elif kind == 2:
            payload[self.string()] = self.value()
        elif kind == 3:
            names = list(payload)
            rng.shuffle(names)
            payload = {name: payload[name] for name in names}
        elif kind == 4:
            payload['offset'] = rng.choice([True, False, -1, 1.0, -0.0, None,
                                            '1', [], 10 ** 400, -10 ** 400])
        elif kind == 5:
            payload[rng.choice(['order_by', 'filters'])] = rng.choice(
                [None, False, 0, '', [], {}])
        elif kind == 6 and rng.randrange(2):
            return self.value()
        elif kind == 7:
            payload['filters'] = self.large()

        return payload

    def large(self):
        """About as much as the limits allow."""

        rng, rules = self.rng, self.rules
        kind = rng.randrange(4)

        if kind == 0:
            value = rng.choice([[], {}, 1, {'a': 1}])
            for _ in range(rules.depth + rng.randrange(-5, 2)):
                value = [value] if rng.randrange(2) else {'a': value}
            return value
        if kind == 1:
            return {f'k{n}': n for n in range(rules.members
                                              + rng.randrange(-3, 3))}
        if kind == 2:
            return int('9' * min(max(rules.digits + rng.randrange(-2, 3), 1),
                                 4300))
        return 'x' * max(rules.length * 3 // 4 - 150 + rng.randrange(-12, 12),
                         0)

    def broken(self, text):
        """The text with something in it."""

        rng = self.rng
        at = rng.randrange(len(text) + 1)
        to = at + rng.randrange(3)
        return text[:at] + rng.choice(SOUP) + text[to:]

    def soup(self):
        return ''.join(self.rng.choices(SOUP, k=self.rng.randrange(1, 12)))

    def envelope(self, text, sig):
        """The envelope of a payload that is text already."""

        rng = self.rng
        kind = rng.randrange(24)
        space = ''

        if kind == 0:
            sig = sig.upper()
        elif kind == 1:
            sig = rng.choice([None, 1, True, [sig], {}, '', sig + '\u00e9',
                              sig[:-1], sig + '0', ' ' + sig, 'x', '\ud800',
                              sig[:63] + '\0', '\x7f' * 64])
        elif kind == 2:
            n = rng.randrange(64)
            sig = sig[:n] + format(int(sig[n], 16) ^ 1, 'x') + sig[n + 1:]
        elif kind == 3:
            space = rng.choice(SPACES + ['\f', '\v', '\ufeff', '\u00a0'])

        spelled = self.escaped(sig) if kind == 4 and sig else compact(sig)
        members = [f'"payload":{text}', f'"sig":{spelled}']

        if kind == 5:
            members.reverse()
        elif kind == 6:
            del members[rng.randrange(2)]
        elif kind == 7:
            members.insert(rng.randrange(3), rng.choice(members + [
                '"payload":{}', '"sig":"x"', '"sig":null', '"x":1',
                '"Sig":1', '"payload":' + self.soup(),
                '"x":' + self.spell(self.large())]))
        elif kind == 8:
            members[0] = self.escaped('payload') + ':' + text
            members[1] = self.escaped('sig') + ':' + spelled
        elif kind == 9:
            return self.spell([json.loads(spelled)])
        elif kind == 10:
            return self.broken('{' + ','.join(members) + '}')
        elif kind == 11:
            return '{' + ','.join(members) + rng.choice(['', ',}', '}}', ']',
                                                         '} x', '}\0', '} \n'])

        return (space + '{' + space + (',' + space).join(members)
                + rng.choice([space, '']) + '}' + space)

    def wrapped(self, text):
        """In base64, seldom as it should be."""

        rng = self.rng
        data = text.encode('utf-8', 'surrogatepass')

        if rng.randrange(25) == 0:
            quote = data.find(b'"', rng.randrange(len(data) or 1))
            at = rng.choice([quote + 1, rng.randrange(len(data) + 1)])
            data = data[:at] + rng.choice(BYTES) + data[at:]
        elif rng.randrange(25) == 0:
            data = bytearray(data or b'x')
            at = rng.randrange(len(data))
            data[at] = rng.choice([rng.randrange(256), data[at] ^ 1
                                   << rng.randrange(8)])

        cursor = base64.urlsafe_b64encode(data).decode()
        return self.mangled(cursor) if rng.randrange(3) == 0 else cursor

    def mangled(self, cursor):
        """The same bytes in another base64, or nearly so."""

        rng = self.rng
        data = cursor.rstrip('=')
        pads = len(cursor) - len(data)
        kind = rng.randrange(12)
        at = rng.randrange(len(cursor) + 1)

        if kind == 0:
            return data
        if kind == 1:
            return cursor + '=' * rng.randrange(1, 6)
        if kind == 2:
            return data + '=' * rng.randrange(8)
        if kind == 3:
            return cursor.translate(STANDARD)
        if kind == 4 and pads:
            # bits that are left over
            last = ALPHABET.index(data[-1]) | rng.randrange(1, 1 << 2 * pads)
            return data[:-1] + ALPHABET[last] + '=' * pads
        if kind == 5:
            return cursor[:at] + '=' * rng.randrange(1, 4) + cursor[at:]
        if kind == 6:
            return cursor[:at] + rng.choice(
                ['!', ' ', '\n', '\r\n', '%', '.', '\0', '\x7f', '\u00e9',
                 '\ud800', '\u20ac', '\U0001f600', ',', '~', '"', '\\',
                 chr(rng.randrange(256))]) + cursor[at:]
        if kind == 7:
            return cursor + rng.choice(ALPHABET) * rng.randrange(1, 4)
        if kind == 8:
            return cursor[:at]
        if kind == 9 and cursor:
            at %= len(cursor)
            return cursor[:at] + rng.choice(ALPHABET + '+/=') + cursor[at + 1:]
        if kind == 10 and len(data) > 1:
            at %= len(data)
            return data[:at] + data[at + 1:] + '=' * rng.randrange(4)
        return cursor[:at] + rng.choice(ALPHABET) + cursor[at:]

    def flipped(self):
        """One bit of what was issued."""

        rng = self.rng
        cursor = self.usual(rng.randrange(2))

        if rng.randrange(2):
            data = bytearray(base64.urlsafe_b64decode(cursor))
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            return base64.urlsafe_b64encode(data).decode()

        at = rng.randrange(len(cursor))
        return (cursor[:at] + chr(ord(cursor[at]) ^ 1 << rng.randrange(8))
                + cursor[at + 1:])

    def random(self):
        rng = self.rng
        kind = rng.randrange(5)

        if kind == 0:
            return ''.join(map(chr, rng.choices(range(256),
                                                k=rng.randrange(1, 40))))
        if kind == 1:
            return ''.join(rng.choices(ALPHABET + '+/==', k=rng.randrange(40)))
        if kind == 2:
            return encode(self.soup())
        if kind == 3:
            return self.signed(self.soup())
        return self.signed(self.broken(compact(self.payload(self.fresh()))))

    def signed(self, text):
        """An envelope of what may be no JSON, signed where it is."""

        try:
            form = signed_form(json.loads(text))
        except ValueError:
            form = text

        return encode('{"payload":%s,"sig":"%s"}' % (
            text, mac(self.secret(), form)))

    def cursor(self):
        """A cursor, and whether it must be valid."""

        kind = self.rng.randrange(100)

        if kind < 40:
            cursor = self.issued()
            if cursor is not None:
                return cursor, True
            kind = 70
        if kind < 45:
            try:
                return issue(self.secret(), self.payload(self.stamp())), False
            except TypeError:
                return '', False
        if kind < 52:
            return self.near(), False
        if kind < 85:
            return self.odd(), False
        if kind < 92:
            return self.flipped(), False
        return self.random(), False

    def fresh_only(self):
        """What the service has just issued and takes back, nothing else."""

        while True:
            cursor = self.issued()
            if cursor is not None:
                return cursor, True
