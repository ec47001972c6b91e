#!/usr/bin/perl

# Cursors through the driver of the core: what a service with that format says
# of 65 of them, in both modes; and what the driver makes of its options and
# of lines that are none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex hmac_sha384);
use File::Temp;
use Gate;
use IPC::Open3;
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use Symbol 'gensym';
use Test::More;

my $driver = ($ENV{GATE_BUILD} || Gate::root() . '/build')
             . '/t/cursor_check';

-x $driver or plan skip_all => 'no drivers: make builds them';

my $file = Gate::json(Gate::slurp(Gate::root()
                                  . '/t/vectors/cursor_envelope.json'));
my ($list) = grep { ref eq 'ARRAY' } values %$file;
my $tmp = File::Temp->newdir;

# Runs the driver on that input: its exit code, output and complaints.

sub run_driver {
    my ($in, @args) = @_;

    my ($to, $from, $err) = (undef, undef, gensym);
    my $pid = open3($to, $from, $err, $driver, @args);

    my $child = fork // die "fork: $!";

    if (!$child) {
        local $SIG{PIPE} = 'IGNORE';
        print $to $in;
        close $to;
        require POSIX;
        POSIX::_exit(0);
    }

    close $to;

    my $out = do { local $/ = undef; <$from> } // '';
    my $why = do { local $/ = undef; <$err> } // '';

    waitpid $child, 0;
    waitpid $pid, 0;

    return ($? >> 8, $out, $why);
}

my $plain = JSON::PP->new->ascii->allow_nonref;

# What it says of these cursors, one line each.

sub verify {
    my ($args, @cursors) = @_;

    my ($rc, $out, $why) = run_driver(
        join('', map { $plain->encode($_) . "\n" } @cursors), @$args);

    die "cursor_check: $why" if $rc || $why ne '';

    return split /\n/, $out;
}

my @common = ('--secret', $file->{secret}, '--now', $file->{now},
              '--ttl', $file->{ttl_seconds});

# An envelope, signed with that secret.

sub envelope {
    my ($payload, $secret, $as) = @_;

    my $mac = hmac_sha256_hex($as // $payload, $secret // $file->{secret});
    my $text = qq({"payload":$payload,"sig":"$mac"});

    my $b = encode_base64url($text);

    return $b . '=' x (-length($b) % 4);
}


# The documented holes of that verifier, and what is over our limits.

my %hole = map { $_ => 1 } (
    'b64:! inside',
    'b64:% inside',
    'b64:newline inside',
    'b64:trailing garbage after =',
    'payload(signed by re-serialisation):ts Infinity',
    'dos:int 4300 digits',
    'dos:depth 300',
);

# By strict: of the future, and what the service could have issued although
# these were made by hand.

my %future = map { $_ => 1 } (
    'issued:future 1h',
    'payload(signed by re-serialisation):ts year 3000',
);

my %natural = map { $_ => 1 } ('b64:no pad natural');

my %groups = (
    issued  => 'what the service issues',
    b64     => 'spellings of base64',
    utf8    => 'bytes that are no UTF-8',
    json    => 'JSON',
    env     => 'envelopes',
    payload => 'payloads that are signed',
    dos     => 'what would cost much',
);

sub expected {
    my ($x, $mode) = @_;

    my ($reason) = $x->{reason} =~ /^([a-z_]+?)(?:_untyped:.*)?$/;

    return 'malformed' if $hole{$x->{name}};
    return $reason if $reason ne 'valid' || $mode eq 'compat';
    return 'future' if $future{$x->{name}};
    return 'valid' if $x->{issued_by_service} || $natural{$x->{name}};
    return 'malformed';
}

is(scalar @$list, 65, 'there are 65 vectors');

for my $group (sort keys %groups) {

    my @those = grep { $_->{name} =~ /^\Q$group\E\b/ } @$list;

    for my $mode ('compat', 'strict') {

        subtest "$groups{$group}, $mode" => sub {
            ok(scalar @those, 'there are some');

            my @got = verify([@common, '--mode', $mode, '--detail'],
                             map { $_->{cursor} } @those);

            for my $x (@those) {
                my $want = expected($x, $mode);
                my ($have, $text) = split /\t/, shift(@got) // '', 2;

                is($have, ($want eq 'valid' ? '200' : '400') . " $want",
                   $x->{name});

                # where the verifier has a text of its own, it is ours

                next if $x->{reason} ne $want || $want eq 'valid'
                        || $x->{detail} =~ /Invalid cursor format/;

                is("Invalid cursor: $text", $x->{detail},
                   "$x->{name}: the text");
            }
        };
    }
}

is(scalar(grep { my $n = $_->{name};
                 !grep { $n =~ /^\Q$_\E\b/ } keys %groups } @$list), 0,
   'no vector is left out');

my @issued = map { $_->{cursor} }
             grep { $_->{issued_by_service} && $_->{reason} eq 'valid'
                    && !$future{$_->{name}} } @$list;


subtest 'options mean what they say' => sub {

    my $c = envelope('{"offset":1,"ts":1760493069.75}');

    is_deeply([verify([@common], $c)], ['200 valid'], 'strict is the default');

    my @args = ('--secret', $file->{secret}, '--now', 1760493069.75 + 600);
    is_deeply([verify(\@args, $c)], ['200 valid'], 'so is a ttl of 600 s');

    $args[3] += 0.25;
    is_deeply([verify(\@args, $c)], ['400 expired'], 'and no more');
    is_deeply([verify([@args, '--ttl', 601], $c)], ['200 valid'], '--ttl');

    $args[3] = 1760493069.75 - 60;
    is_deeply([verify(\@args, $c)], ['200 valid'], 'a skew of 60 s');
    $args[3] -= 0.25;
    is_deeply([verify(\@args, $c)], ['400 future'], 'and no more');
    is_deeply([verify([@args, '--skew', 61], $c)], ['200 valid'], '--skew');

    my $more = envelope('{"offset":1,"ts":1760493069.75,"x":1}');
    is_deeply([verify([@common], $more)], ['400 malformed'], 'no claims');
    is_deeply([verify([@common, '--claim', 'x', '--claim', 'y'], $more)],
              ['200 valid'], '--claim');

    my $n = length $c;
    is_deeply([verify([@common, '--max-length', $n], $c, "${c}A")],
              ['200 valid', '400 malformed'], '--max-length');
    is_deeply([verify([@common, '--max-depth', 1], $c)], ['400 malformed'],
              '--max-depth');
    is_deeply([verify([@common, '--max-members', 1], $c)],
              ['400 malformed'], '--max-members');
    is_deeply([verify([@common, '--max-digits', 1], $c)], ['200 valid'],
              '--max-digits that is enough');
    is_deeply([verify([@common, '--max-digits', 1],
                      envelope('{"offset":10,"ts":1760493069.75}'))],
              ['400 malformed'], '--max-digits');
    is_deeply([verify([@common, '--detail'], $c, ".$c")],
              ["200 valid\t", "400 malformed\tInvalid cursor format: "
                              . 'it is not base64url'], '--detail');
};


subtest 'several secrets, and keys in files' => sub {

    my $old = envelope('{"offset":1,"ts":1760493069.75}', "old\n");
    my $new = envelope('{"offset":1,"ts":1760493069.75}', "new");
    my @now = ('--now', $file->{now});

    is_deeply([verify(['--secret', 'new', '--secret', "old\n", @now], $old,
                      $new, $issued[0])],
              ['200 valid', '200 valid', '400 bad_signature'],
              'each of them counts, to the last byte');

    Gate::spew("$tmp/key", "new\n");
    is_deeply([verify(['--key', "$tmp/key", @now], $new, $old)],
              ['200 valid', '400 bad_signature'],
              'a file without the end of its line');

    my ($rc, $out, $why) = run_driver('', '--key', "$tmp/none", @now);
    ok($rc == 2 && $out eq '' && $why =~ m{/none: No such file},
       'a file that is not there');

    Gate::spew("$tmp/bad", "-----BEGIN PUBLIC KEY-----\nx\n");
    ($rc, $out, $why) = run_driver('', '--key', "$tmp/bad", @now);
    ok($rc == 2 && $out eq '' && $why =~ m{/bad: it holds no},
       'a file that holds no key');

    ($rc, $out, $why) = run_driver('', '--secret', '', @now);
    ok($rc == 2 && $why =~ /secret 1: it is empty/, 'an empty secret');
};


subtest 'the other formats' => sub {

    my $seg = encode_base64url('{"ts":1760493069.75}');
    my $mac = hmac_sha256_hex($seg, $file->{secret});

    is_deeply([verify([@common, '--format', 'detached'], "$seg.$mac",
                      "$seg.0$mac", $issued[0])],
              ['200 valid', '400 malformed', '400 malformed'], 'detached');

    my $jws = encode_base64url('{"alg":"HS384"}') . '.'
              . encode_base64url('{"iat":1760493069}');
    $jws .= '.' . encode_base64url(hmac_sha384($jws, $file->{secret}));

    is_deeply([verify([@common, '--format', 'jws', '--alg', 'HS384'], $jws)],
              ['200 valid'], 'jws');
    is_deeply([verify([@common, '--format', 'jws'], $jws)],
              ['400 bad_signature'], 'jws of another algorithm');

    # RFC 7515, appendix A.3, verified with a file in PEM

    Gate::spew("$tmp/p256", <<'END');
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
END

    is_deeply([verify(['--key', "$tmp/p256", '--now', 1300819379, '--format',
                       'jws'],
                      'eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEz'
                      . 'MDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb29'
                      . '0Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4Gawxa'
                      . 'epmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q')],
              ['200 valid'], 'ES256');
};


subtest 'a line is a string of any bytes' => sub {

    my $c = $issued[0];
    my @lines = (
        ['""',                         '200 absent',    'nothing'],
        ['"\u0000"',                   '400 malformed', 'a NUL'],
        ['"\ud800"',                   '400 malformed', 'a lone surrogate'],
        ['"\udc00\ud800"',             '400 malformed', 'two of them'],
        ['"\ud83d\ude00"',             '400 malformed', 'a pair of them'],
        ['"\u00ff\u00c3\u00a9"',       '400 malformed', 'high bytes'],
        ["\"\xc3\xa9\"",               '400 malformed', 'UTF-8 as it is'],
        [' "" ',                       '200 absent',    'spaces around'],
        [qq("$c"),                     '200 valid',     'a cursor'],
        ['"' . 'A' x 100_000 . '"',    '400 malformed', 'a very long one'],
        ['"' . '\u0041' x 5_000 . '"', '400 malformed', 'and of escapes'],
    );

    (my $escaped = $c) =~ s/(.)/sprintf '\\u%04x', ord $1/ge;
    push @lines, [qq("$escaped"), '200 valid', 'a cursor of escapes'];

    my ($rc, $out, $why) = run_driver(
        join('', map { "$_->[0]\n" } @lines), @common);
    my @got = split /\n/, $out;

    is($rc, 0, 'all of them are');
    is($why, '', 'without a complaint');
    is(shift(@got), $_->[1], $_->[2]) for @lines;

    ($rc, $out) = run_driver(qq("$c"\n"$c"), @common);
    is("$rc $out", "0 200 valid\n200 valid\n",
       'the last one needs no line feed');

    ($rc, $out, $why) = run_driver('', @common);
    is("$rc$out$why", '0', 'nothing comes of nothing');
};


subtest 'what is no string is said with its line' => sub {

    for my $line ('x', '1', '["a"]', '"a', '"a" "b"', '{}', '', '"\x"',
                  "\"\xff\"", "\"\t\"")
    {
        my ($rc, $out, $why) = run_driver(
            qq("$issued[0]"\n$line\n"$issued[0]"\n), @common);

        (my $name = $line) =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;

        ok($rc == 2 && $out eq "200 valid\n"
           && $why =~ /^cursor_check: line 2 is no JSON string$/m,
           "<$name>");
    }
};


subtest 'wrong options are refused, with the usage' => sub {

    my @now = ('--now', 1);
    my @key = ('--secret', 's');

    for my $args (
        [], [@now], [@key], [@key, '--now', 'x'], [@key, '--now', ''],
        [@key, '--now', 'nan'], [@key, '--now', 'inf'],
        [@key, '--now', '1s'], [@key, @now, '--ttl', '10m'],
        [@key, @now, '--ttl', '-1'], [@key, @now, '--ttl', ''],
        [@key, @now, '--ttl', '99999999999999999999'],
        [@key, @now, '--skew', '0.5'], [@key, @now, '--mode', 'observe'],
        [@key, @now, '--format', 'JWS'], [@key, @now, '--alg', 'none'],
        [@key, @now, '--max-length', 0], [@key, @now, '--max-length', 4097],
        [@key, @now, '--max-depth', 33], [@key, @now, '--max-members', 65],
        [@key, @now, '--max-digits', 4301], [@key, @now, '--max-digits', 0],
        [@key, @now, '--nope'], [@key, @now, 'cursor'], [@key, '--now'],
        [(@key) x 9, @now], [@key, @now, ('--claim', 'x') x 9])
    {
        my ($rc, $out, $why) = run_driver("\"\"\n", @$args);

        ok($rc == 2 && $out eq '' && $why =~ /^usage: cursor_check /m,
           join(' ', map { /^[\w.-]+$/ ? $_ : "'$_'" } @$args)
           || 'none at all');
    }

    my ($rc, $out, $why) = run_driver('', @key, @now, '--alg', 'ES256');
    ok($rc == 2 && $why =~ /need a key in PEM/,
       'an algorithm that does not go with the key');
};


subtest 'many at once' => sub {

    my $n = 100_000;
    my @some = map { qq("$_"\n) } @issued, 'AAAA';
    my ($rc, $out) = run_driver(
        join('', map { $some[$_ % @some] } 0 .. $n - 1), @common);

    my @got = split /\n/, $out;

    is($rc, 0, 'they are all read');
    is(scalar @got, $n, 'and all are answered');
    is(scalar(grep { $got[$_] ne ($_ % @some == $#some ? '400 malformed'
                                                       : '200 valid') }
              0 .. $#got), 0, 'in their order');
};

done_testing;
