# Copyright (C) nginx-gate authors

"""Many cursors through the module's core and through the rules."""

import argparse
import json
import random
import re
import subprocess
import time

from collections import Counter

import cursor_ref
import cursor_token
from cursor_gen import Generator

BATCH = 5000
TEXT = 96                       # bytes of the driver's text, with its NUL
PRINTABLE = re.compile(r"[ !#-\[\]-~]*\Z")


def batch_rules(rng, first, large):
    """The service's own as often as not."""

    if first or rng.randrange(2):
        return cursor_ref.Rules(['test-cursor-secret-for-pagination'],
                                1760493130.25)

    small = rng.randrange(4) == 0 and not large

    return cursor_ref.Rules(
        rng.choice([['s'], ['x' * 64], ['y' * 65], ['schl\u00fcssel \u6771'],
                    ['newer-secret', 'older-secret'], ['a b\tc', 'd', 'e']]),
        rng.choice([1760493130.25, 1760493130, 0.5, 4102444800.0, 1.5e9 + 1/3,
                    round(rng.uniform(1e9, 2e9), 6)]),
        ttl=rng.choice([1, 10, 600, 86400, 10 ** 9]),
        skew=rng.choice([0, 60, 3600]),
        claims=rng.choice([(), ('tenant',), ('route', 'k\u00e9y')]),
        length=rng.choice([300, 1024, 4096]) if small else 4096,
        depth=rng.choice([3, 4, 32]) if small else 32,
        members=rng.choice([3, 5, 64]) if small else 64,
        digits=rng.choice([1, 20, 4300]) if small else 4300)


def asked(driver, args, cursors):
    """What the driver says: [status, text] each."""

    text = '\n'.join(map(json.dumps, cursors)) + '\n'
    done = subprocess.run([driver, '--detail', *args], input=text.encode(),
                          stdout=subprocess.PIPE, check=False)

    if done.returncode:
        raise SystemExit(f'{driver}: exit code {done.returncode}')

    lines = done.stdout.decode('latin-1').split('\n')[:-1]

    if len(lines) != len(cursors):
        raise SystemExit(f'{len(cursors)} cursors, {len(lines)} answers')

    return [line.partition('\t')[::2] for line in lines]


def same(got, status, text):
    code = '200' if status in ('valid', 'absent') else '400'
    said, told = got

    if said != f'{code} {status}' or not PRINTABLE.match(told):
        return False

    if text is None:
        return told.startswith('Invalid cursor format: ')

    # an age may have more digits than there is room for
    return told == text or (len(text) >= TEXT and status == 'expired')


def laxer(cursors, rules):
    """What a service judges otherwise than the rules do, by reason."""

    found = Counter()

    for cursor in cursors:
        here = cursor_ref.compat(cursor, rules)[0]
        there = cursor_ref.served(cursor, rules)
        if here != there:
            reason = cursor_ref.hole(cursor, rules)
            if here != 'malformed' or reason is None:
                print(json.dumps({'args': rules.args(), 'cursor': cursor,
                                  'rules': here, 'service': there}))
                reason = 'no reason'
            found[reason] += 1

    return found


def listed(counts):
    return ', '.join(f'{n} {name}' for name, n in sorted(counts.items()))


def kind_of(args, rng, rules):
    """Who makes cursors of the format, and who judges them."""

    if args.format == 'envelope':
        gen = Generator(rng, rules)
        make = gen.fresh_only if args.issued else gen.cursor
        return make, cursor_ref.envelope

    gen = cursor_token.TokenGenerator(rng, rules)
    return getattr(gen, args.format), cursor_token.FORMATS[args.format]


def run(argv):
    parser = argparse.ArgumentParser(prog='cursor_ref.py diff')
    parser.add_argument('--driver', required=True)
    parser.add_argument('--count', type=int, default=20000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--show', type=int, default=10)
    parser.add_argument('--issued', action='store_true')
    parser.add_argument('--format', default='envelope',
                        choices=['envelope', *cursor_token.FORMATS])
    args = parser.parse_args(argv)

    start = time.monotonic()
    totals = {'compat': Counter(), 'strict': Counter()}
    holes = Counter()
    issued = refused = differ = done = 0

    while done < args.count:
        rng = random.Random(f'{args.seed} {done}')
        rules = batch_rules(rng, not done, args.issued)
        if args.format != 'envelope':
            rules.token(args.format, rng)
        make, judge = kind_of(args, rng, rules)
        count = min(BATCH, args.count - done)
        cursors, good = zip(*(make() for _ in range(count)))
        done += count
        issued += sum(good)
        if args.format == 'envelope':
            holes += laxer(cursors, rules)

        for mode in totals:
            driver = ['--mode', mode, *rules.args()]
            want = [judge(cursor, rules, mode) for cursor in cursors]
            said = asked(args.driver, driver, cursors)

            for cursor, must, rule, got in zip(cursors, good, want, said):
                status, text = rule
                totals[mode][status] += 1
                false = must and got[0] != '200 valid'
                refused += false

                if same(got, status, text) and not false:
                    continue

                differ += 1
                if differ <= args.show:
                    print(json.dumps({
                        'args': driver, 'cursor': cursor,
                        'rules': [status, text], 'driver': got,
                        'issued': must}))

    if holes:
        print('taken by a service, malformed here:', listed(holes))
        differ += holes['no reason']

    for mode, total in totals.items():
        print(f'{mode}:', listed(total))

    print(f'{done} cursors in both modes, {differ} differ; {issued} of them '
          f'issued and fresh, {refused} refused; seed {args.seed}, '
          f'{time.monotonic() - start:.1f} s')

    return differ != 0
