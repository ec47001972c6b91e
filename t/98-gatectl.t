#!/usr/bin/perl

# gatectl: cursors are signed and verified by hand as the module does it, what
# docs/cursors.md tells people to type works, and no secret is ever shown.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex hmac_sha512);
use Gate;
use MIME::Base64 qw(decode_base64url encode_base64url);
use Test::More;

my $ctl = ($ENV{GATE_BUILD} || Gate::root() . '/build') . '/gatectl';

-x $ctl or plan skip_all => 'no gatectl: make builds it';

my $t = Gate->new;
my $dir = $t->dir;
my $secret = 'test-cursor-secret-for-pagination-edge';
my $key = key('key', "$secret\n");
my $old = key('old', 'another-secret-of-the-years-gone-by');
my $shown = '';

sub key {
    my ($name, $text, $mode) = @_;
    my $file = $t->write_file("$name.key", $text);
    chmod $mode // 0600, $file or die "chmod: $!\n";
    return $file;
}

# Runs gatectl: exit code, output, complaints.

sub ctl {
    my ($in, @args) = @_;

    my $file = $t->write_file('in', $in);
    my $pid = fork // die "fork: $!\n";

    if (!$pid) {
        open STDIN, '<', $file or die "$file: $!\n";
        open STDOUT, '>', "$dir/out" or die "$dir/out: $!\n";
        open STDERR, '>', "$dir/err" or die "$dir/err: $!\n";
        exec $ctl, 'cursor', @args or die "$ctl: $!\n";
    }

    waitpid $pid, 0;
    die "gatectl: signal\n" if $? & 127;

    my ($code, $out, $err) = ($? >> 8, map { Gate::slurp("$dir/$_") }
        qw(out err));
    $shown .= "$out$err";
    return ($code, $out, $err);
}

sub sign {
    my ($code, $out, $err) = ctl('', 'sign', '--key', $key, @_);
    is($code, 0, 'signed') or diag($err);
    chomp $out;
    return $out;
}

# "code output" of verifying.

sub verify {
    my ($cursor, @args) = @_;
    my ($code, $out, $err) = ctl($cursor, 'verify', '--key', $key, @args);
    chomp $out;
    return "$code $out";
}

sub padded {
    my $s = encode_base64url($_[0]);
    return $s . '=' x (-length($s) % 4);
}

sub envelope {
    my ($payload, $signed) = @_;
    my $sig = hmac_sha256_hex($signed // $payload, $secret);
    return padded(qq({"payload":$payload,"sig":"$sig"}));
}


subtest 'envelopes' => sub {
    my $payload = '{"offset":50,"ts":1760493069.75}';
    my $cursor = sign('--offset', 50, '--ts', '1760493069.75');

    is($cursor, envelope($payload), 'as a service signs');
    is(verify($cursor, '--now', '1760493130.25'), '0 valid', 'is valid');
    is(verify("$cursor\n", '--now', '1760493130.25'), '0 valid',
        'with a line end, too');

    my ($code, $out) = ctl('', 'verify', '--key', $key, '--now',
        1760493130, $cursor);
    is("$code $out", "0 valid\n", 'on the command line');

    is(verify($cursor, '--now', '1760493769.75'), '1 expired: Cursor expired '
        . '(age: 700.0s, TTL: 600s)', 'grows old');
    is(verify($cursor, '--now', '1760493669.75'), '0 valid',
        'but not at its time to live');
    is(verify($cursor, '--now', '1760493769.75', '--ttl', '1h'), '0 valid',
        'with another time to live');
    is(verify($cursor, '--now', '1760493000'), '1 future: Cursor timestamp is '
        . 'in the future', 'is not of the future');
    is(verify($cursor, '--now', '1760493000', '--skew', '2m'), '0 valid',
        'where clocks differ so much');
    is(verify($cursor, '--now', '1760493000', '--mode', 'compat'), '0 valid',
        'and a service does not look');

    is(verify(sign('--offset', '0')), '0 valid', 'now is the default');

    my $other = $cursor;
    substr($other, 40, 1) =~ tr/A-Za-z0-9/B-ZAb-za1-90/;
    like(verify($other, '--now', 1760493130), qr/^1 (?:bad_sig|malformed)/,
        'another character is noticed');
    is(verify('x'), verify('x', '--mode', 'compat'), 'no base64');
    like(verify('x'), qr/^1 malformed: Invalid cursor format: /,
        'which is told');
    like(verify('A' x 9000), qr/^1 malformed/, 'far too long');
    like(verify("\0" . $cursor), qr/^1 malformed/, 'with a NUL');
    is(verify(''), '1 absent', 'none at all');
};

subtest 'payloads' => sub {
    my $signed = '{"filters":{"a":1e+16,"z":"\u00e9"},"offset":1,"ts":1760493100}';
    my $issued = '{"offset":1,"ts":1760493100,"filters":{"z":"\u00e9","a":1e+16}}';
    my @now = ('--now', 1760493130);

    my $cursor = sign('--payload', '{"offset":1, "ts":1760493100, "filters":'
        . "{\"z\":\"\xc3\xa9\", \"a\":10000000000000000.0}}");
    is($cursor, envelope($issued, $signed), 'are printed as a service does');
    is(verify($cursor, @now, '--show'), "0 valid\n$signed", 'and shown');

    my ($code, $out) = ctl("$issued\n", 'sign', '--key', $key, '--payload',
        '-');
    is("$code $out", "0 $cursor\n", 'come from stdin');

    $cursor = sign('--payload', '{"offset":1,"ts":1760493100,"tenant":"x"}');
    like(verify($cursor, @now), qr/^1 malformed/, 'have no members that the '
        . 'service does not know');
    is(verify($cursor, @now, '--claim', 'tenant'), '0 valid',
        'unless it is said that it does');

    for my $bad ('', '[]', '{', 'x' x 3000, '{"a":"' . 'x' x 3000 . '"}') {
        my ($code, $out, $err) = ctl($bad, 'sign', '--key', $key,
            '--payload', '-');
        is("$code $out", '2 ', 'no payload: ' . substr $bad, 0, 10);
        like($err, qr/^gatectl: \S.*\n\z/, 'which is told');
    }
};

subtest 'the other formats' => sub {
    my $cursor = sign('--format', 'detached', '--offset', 5, '--ts',
        1760493100);
    my ($segment, $mac) = split /\./, $cursor;
    is(decode_base64url($segment), '{"offset":5,"ts":1760493100}',
        'detached: the payload');
    my %mac = map { $_ => 1 } hmac_sha256_hex($segment, $secret),
        encode_base64url(hmac_sha256($segment, $secret));
    ok($mac{$mac}, 'and its MAC');
    is(verify($cursor, '--format', 'detached', '--now', 1760493130),
        '0 valid', 'is valid');
    like(verify($cursor, '--now', 1760493130), qr/^1 malformed/,
        'but no envelope');

    $cursor = sign('--id', 'k1', '--alg', 'HS512', '--format', 'jws',
        '--payload', '{"exp":1760493200}');
    my ($head, $body, $sig) = split /\./, $cursor;
    my $header = Gate::json(decode_base64url($head));
    is($header->{alg}, 'HS512', 'jws: the algorithm');
    is($header->{kid}, 'k1', 'the key');
    is(decode_base64url($body), '{"exp":1760493200}', 'the payload');
    is(decode_base64url($sig), hmac_sha512("$head.$body", $secret),
        'the MAC');
    is(verify($cursor, '--alg', 'HS512', '--id', 'k1', '--format', 'jws',
        '--now', 1760493130), '0 valid', 'is valid');
    like(verify($cursor, '--format', 'jws', '--now', 1760493130),
        qr/^1 bad_signature: /, 'but not with another algorithm');
    is(verify($cursor, '--alg', 'HS512', '--format', 'jws', '--now',
        1760493260), '1 expired: Cursor expired', 'and grows old');
};

subtest 'pairs of keys' => sub {
    for (['ES256', 'EC -pkeyopt ec_paramgen_curve:P-256'],
         ['EdDSA', 'ED25519'])
    {
        my ($alg, $how) = @$_;
        my ($pem, $pub) = map { key("$alg.$_", '') } qw(pem pub);
        system("openssl genpkey -algorithm $how -out $pem 2>/dev/null"
            . " && openssl pkey -in $pem -pubout -out $pub") == 0
            or die "openssl\n";

        my ($code, $out) = ctl('', 'sign', '--key', $pem, '--format', 'jws',
            '--offset', 1);
        is($code, 0, "$alg: signed");
        is(Gate::json(decode_base64url((split /\./, $out)[0]))->{alg}, $alg,
            'with the algorithm of the key');

        for my $file ($pem, $pub) {
            my ($code, $said) = ctl($out, 'verify', '--key', $file,
                '--format', 'jws');
            is("$code $said", "0 valid\n", 'is valid');
        }

        ($code, my $none, my $err) = ctl('', 'sign', '--key', $pub,
            '--format', 'jws', '--offset', 1);
        is("$code $none", '2 ', 'a public key signs nothing');
        isnt($err, '', 'which is told');
    }
};

subtest 'several keys' => sub {
    my $new = sign('--offset', 1);
    my ($code, $cursor) = ctl('', 'sign', '--key', $old, '--offset', 1);

    is(verify($new, '--key', $old), qq(0 valid, key "$key"), 'the first');
    is(verify($cursor, '--key', $old, '--id', 'before'),
        '0 valid, key "before"', 'the second');
    is(verify($cursor), '1 bad_signature: Cursor signature verification '
        . 'failed', 'which is needed');
};

subtest 'files that are no keys' => sub {
    my %bad = (
        everybody => [key('open', $secret, 0644), qr/"chmod 600"/],
        empty => [key('empty', ''), qr/empty/],
        missing => ["$dir/none", qr/No such file/],
        directory => [$dir, qr/not a regular file/],
        hex => [key('hex', 'xyz'), qr/\S/, '--key-format', 'hex'],
        long => [key('long', 'x' x 70000), qr/long/],
    );

    for my $name (sort keys %bad) {
        my ($file, $why, @more) = @{ $bad{$name} };
        for my $what ('sign', 'verify') {
            my ($code, $out, $err) = ctl('x', $what, '--key', $file, @more,
                $what eq 'sign' ? ('--offset', 1) : ());
            is("$code $out", '2 ', "$name: $what");
            like($err, $why, 'which is told');
        }
    }

    my $short = key('short', 'secret');
    my ($code, undef, $err) = ctl('', 'sign', '--key', $short, '--offset', 1);
    is($code, 0, 'a short one signs');
    like($err, qr/warning/, 'but is warned of');
};

subtest 'what is not understood' => sub {
    my @key = ('--key', $key);

    for my $bad ([], ['sign'], ['verify'], ['sign', '--offset', 1],
        ['what', @key], ['sign', @key], ['sign', @key, '--offset', '-1'],
        ['sign', @key, '--offset', '01'], ['sign', @key, '--offset', '1x'],
        ['sign', @key, '--offset', 1, '--ts', 'x'],
        ['sign', @key, '--offset', 1, '--ts', '1.'],
        ['sign', @key, '--offset', 1, '--payload', '{}'],
        ['sign', @key, '--payload', '{}', '--ts', 1],
        ['sign', @key, '--offset', 1, 'more'], ['sign', @key, '--ttl', '1m'],
        ['sign', @key, @key, '--offset', 1],
        ['sign', '--id', 'x', @key, '--offset', 1],
        ['sign', @key, '--format', 'jwt', '--offset', 1],
        ['verify', @key, '--ttl', '0'], ['verify', @key, '--ttl', '1500ms'],
        ['verify', @key, '--mode', 'observe'], ['verify', @key, 'x', 'y'],
        ['verify', @key, '--alg', 'none'], ['verify', @key, '--now'],
        ['verify', (@key) x 9])
    {
        my ($code, $out, $err) = ctl('', @$bad);
        is("$code $out", '2 ', 'refused: ' . join ' ', map {
            $_ eq $key ? 'FILE' : $_ } @$bad);
        isnt($err, '', 'with a reason');
    }

    my $help = `$ctl --help`;
    is($?, 0, 'there is help');
    like($help, qr/^usage: gatectl cursor sign/, 'that helps');

    my ($code, undef, $err) = ctl('', 'verify', @key, "--$secret");
    is($code, 2, 'an option that is none');
    unlike($err, qr/\Q$secret/, 'is not repeated');

    SKIP: {
        skip 'no /dev/full', 1 unless -c '/dev/full';
        system("$ctl cursor sign --key $key --offset 1 >/dev/full 2>/dev/null");
        is($? >> 8, 2, 'an answer that gets lost is none');
    }
};

subtest 'what docs/cursors.md tells to type' => sub {
    my $doc = Gate::slurp(Gate::root() . '/docs/cursors.md');
    my $bin = "$dir/bin";
    my $n = 0;

    mkdir $bin or die "$bin: $!\n";
    symlink $ctl, "$bin/gatectl" or die "symlink: $!\n";
    key('cursor.old', 'the-secret-of-last-month-0123456789');
    local $ENV{PATH} = "$bin:$ENV{PATH}";

    while ($doc =~ /^```sh\n(.*?)^```/msg) {
        my $text = $1;
        $text =~ s{/etc/nginx/}{$dir/}g;

        # a cursor that somebody has, as it came
        system("$ctl cursor sign --key $dir/cursor.key --offset 1 "
            . "> $dir/cursor.txt") == 0 or die "no cursor\n" if $n;

        my $script = $t->write_file('example', "set -e\ncd $dir\n$text");
        my $out = `sh $script 2>&1`;
        is($?, 0, 'example ' . ++$n) or diag($text, $out);
        unlike($out, qr/warning|refused/, 'without a complaint');
        $shown .= $out;
    }

    cmp_ok($n, '>=', 4, 'all of them');
};

my @secrets = map { my $s = Gate::slurp($_); chomp $s; $s } $key, $old,
    "$dir/cursor.key";
unlike($shown, qr/\Q$_/, 'no secret was shown') for @secrets;
unlike($shown, qr/PRIVATE/, 'no private key, either');

$t->done;
done_testing;
