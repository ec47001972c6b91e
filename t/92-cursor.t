#!/usr/bin/perl

# Cursors: what passes and what does not, where a cursor may be, what binds
# it, and what others are told of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use Gate;
use Gate::Cursor;
use Gate::Rollout;
use Test::More;

my $t = Gate->new;
my $g = Gate::Rollout->new($t);

my $b = $t->backend('echo');
my $bp = $b->addr;

my $c = Gate::Cursor->new('cursor-test-key-of-more-than-32-bytes');
my $old = Gate::Cursor->new('cursor-test-key-that-was-used-before-it');
my $other = Gate::Cursor->new('cursor-test-key-that-nobody-here-knows');

sub key_file {
    my ($name, $key) = @_;
    my $file = $t->write_file($name, $key->secret . "\n");
    chmod 0600, $file or die "chmod $file: $!\n";
    return $file;
}

my $new_key = key_file('new.key', $c);
my $old_key = key_file('old.key', $old);

my @claims = qw(s i f big t nil arr obj ctl uni case case_name twice empty nan
    offset);
my $claims = join "\n", map { "add_header X-$_ \$gate_cursor_claim_$_ always;" }
    @claims;
$claims .= "\nadd_header X-Status \$gate_cursor_status always;"
    . "\nadd_header X-Key \$gate_cursor_key_id always;\n";
my $pass = "proxy_pass http://$bp;";

$t->http(workers => 1, access => '$request_uri $status $gate_cursor_status',
    <<"EOF_CONF");
    gate_cursor_key file=$new_key id=new;
    gate_cursor_key file=$old_key id=old;

    add_header X-Status \$gate_cursor_status always;
    add_header X-Key \$gate_cursor_key_id always;

    map \$uri \$route { ~^/bound/(?<name>[a-z]+) \$name; }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        server_name shop.example other.example;

        gate_cursor cursor;

@{[ $g->endpoints ]}
        location / { $pass }
        location /off/ { gate_cursor off; $pass }
        location /off/on/ { gate_cursor cursor; $pass }
        location /if/ { if (\$arg_x) { set \$y 1; } $pass }
        location /if2/ { if (\$arg_x) { proxy_pass http://$bp; } $pass }
        location ~ ^/if3 { if (\$arg_x) { proxy_pass http://$bp; } $pass }
        location /except/ { limit_except GET { allow all; } $pass }
        location /name/ { gate_cursor "arg:a b&=+%"; $pass }
        location /arg/ { gate_cursor arg:off; $pass }
        location /last/ { gate_cursor cursor duplicate=last; $pass }
        location /first/ { gate_cursor cursor duplicate=first; $pass }
        location /raw/ {
            rewrite ^ /y break;
            proxy_pass http://$bp\$request_uri;
        }
        location /header/ { gate_cursor header:X-Cursor; $pass }
        location /header-last/ {
            gate_cursor header:x-cursor duplicate=last; $pass
        }
        location /cookie/ { gate_cursor cookie:c; $pass }
        location /cookie-first/ { gate_cursor cookie:c duplicate=first; $pass }
        location /cookie-last/ { gate_cursor cookie:c duplicate=last; $pass }
        location /when/ { gate_cursor cursor when=\$http_x_api_key; $pass }
        location /when2/ { gate_cursor cursor when=\$arg_a\$arg_b; $pass }
        location /ttl/ { gate_cursor cursor ttl=1h skew=5m; $pass }
        location /compat/ { gate_cursor cursor mode=compat; $claims $pass }
        location /observe/ { gate_cursor cursor mode=observe; $claims $pass }
        location /gone/ { gate_cursor cursor expired_status=410; $pass }
        location /detached/ {
            gate_cursor cursor format=detached; $claims $pass
        }
        location /detached-ttl/ {
            gate_cursor cursor format=detached ttl=1m; $pass
        }
        location /jws/ { gate_cursor cursor format=jws; $claims $pass }
        location /length/ { gate_cursor cursor max_length=150; $pass }
        location /length170/ { gate_cursor cursor max_length=170; $pass }
        location /depth/ { gate_cursor cursor mode=compat max_depth=3; $pass }
        location /members/ {
            gate_cursor cursor mode=compat max_members=3; $pass
        }
        location /digits/ { gate_cursor cursor max_digits=10; $pass }
        location /own/ {
            gate_cursor_key file=$old_key id=mine;
            $pass
        }

        location /bound/ {
            gate_cursor_claim route \$route;
            $pass
            location /bound/two/ {
                gate_cursor_claim route two;
                gate_cursor_claim key \$http_x_api_key;
                $pass
            }
        }

        location /log/ { $pass }
        location ~ ^/regex/\\d+\$ { $pass }
        location = /exact { $pass }
    }

    server {
        listen 127.0.0.1:%%PORT:under%%;
        underscores_in_headers on;
        location / { gate_cursor header:X-Cursor; $pass }
        location /under/ { gate_cursor header:x_cursor; $pass }
    }

    server {
        listen 127.0.0.1:%%PORT:none%%;
        gate_cursor cursor;
        root %%DIR%%;
    }

    server {
        listen 127.0.0.1:%%PORT:http%%;
        server_name ~^re\\.(?<x>.+)\$;
        location /r/ { gate_cursor cursor; $pass }
    }
EOF_CONF

$t->start;

sub mode { return $g->api('modes/cursor', { mode => $_[0] }) }

# "200 valid": the answer, and what the variable says; and whether the service
# was asked must go with the answer.

sub outcome {
    my ($uri, @opt) = @_;

    my $before = $b->requests;
    my $r = $t->get($uri, @opt);
    my $asked = $b->requests - $before;

    return ($r->status . ' ' . ($r->header('X-Status') || '-')
        . ($asked == ($r->status == 200) ? '' : " but asked $asked times"), $r);
}

sub gives {
    my ($want, $name, $uri, @opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($got, $r) = outcome($uri, @opt);
    is($got, $want, $name);
    return $r;
}

my $good = $c->issue(40);
my $forged = Gate::Cursor::forged($good);
my $hour = 3600;

subtest 'the rules of the service' => sub {
    gives('200 absent', 'no cursor', '/');
    gives('200 absent', 'no query', '/x?');
    gives('200 absent', 'an empty cursor is the first page', '/?cursor=');
    gives('200 absent', 'another argument', "/?cursors=$forged");

    my $r = gives('200 valid', 'one that was issued', "/?cursor=$good");
    is($r->json->{uri}, "/?cursor=$good", 'reaches the service as it came');

    gives('200 valid', 'offset 0', '/?cursor=' . $c->issue(0));
    gives('200 valid', 'a time with a fraction',
        '/?cursor=' . $c->issue(1, ts => time . '.25'));

    my %refused = (
        bad_signature => [$forged,
            'Cursor signature verification failed'],
        expired => [$c->issue(40, age => $hour),
            qr/Cursor expired \(age: 360\d\.\ds, TTL: 600s\)/],
        future => [$c->issue(40, age => -$hour),
            'Cursor timestamp is in the future'],
        malformed => [$c->issue(-1), 'Invalid offset in cursor'],
    );

    for my $status (sort keys %refused) {
        my ($cursor, $text) = @{ $refused{$status} };
        my $r = gives("400 $status", $status, "/?cursor=$cursor");
        like($r->json->{detail}, qr/^Invalid cursor: $text$/,
            "$status: the text");
    }

    gives('400 bad_signature', 'by a key that is not ours',
        '/?cursor=' . $other->issue(40));
    gives('400 malformed', 'nonsense', '/?cursor=nonsense');
    gives('400 malformed', 'one byte', '/?cursor=x');
    gives('400 malformed', 'NUL', '/?cursor=%00');
    gives('400 malformed', 'a byte more', "/?cursor=${good}x");

    is($t->post("/?cursor=$forged", body => 'x')->status, 400, 'POST');
    is($t->request(DELETE => "/?cursor=$forged")->status, 400, 'DELETE');
};

subtest 'keys' => sub {
    is(gives('200 valid', 'the new key', "/?cursor=$good")->header('X-Key'),
        'new', 'its id');
    is(gives('200 valid', 'the old key', '/?cursor=' . $old->issue(1))
        ->header('X-Key'), 'old', 'its id');
    is(gives('400 expired', 'of who is refused', '/?cursor='
        . $c->issue(1, age => $hour))->header('X-Key'), undef, 'no id');
    is(gives('200 valid', 'a location with a key of its own',
        '/own/?cursor=' . $old->issue(1))->header('X-Key'), 'mine', 'its id');
    gives('400 bad_signature', 'has no other', "/own/?cursor=$good");
};

subtest 'the argument' => sub {
    (my $coded = $good) =~ s/(.)/sprintf '%%%02x', ord $1/ge;

    gives('200 valid', 'every byte written as %XX', "/?cursor=$coded");
    gives('200 valid', 'after another one', "/?a=b&cursor=$good");
    gives('200 valid', 'before another one', "/?cursor=$good&a=b");
    gives('200 valid', 'empty pieces', "/?&&cursor=$good&&");
    gives('200 absent', 'a name without "="', '/?cursor');
    gives('200 absent', 'names differ by case', "/?CURSOR=$forged");
    gives('200 absent', 'the name is not a part of one', "/?xcursor=$forged");
    gives('400 malformed', 'what is behind a ";" belongs to it',
        "/?cursor=$good;a=b");
    gives('400 malformed', '"+" is a space', "/?cursor=+$good");
    gives('400 malformed', '"%" without digits is itself', "/?cursor=%$good");
    gives('400 bad_signature', 'the name written with %XX',
        "/?c%75rsor=$forged");
    gives('400 bad_signature', 'what is behind a second "?"',
        "/?a=b?c&cursor=$forged");

    for my $uri ("/?a=b#&cursor=$forged", "/?a=b#c&cursor=$forged",
        "/#?cursor=$forged", "/?cursor=$good#x", "/?cursor=#$forged",
        "/?cursor=$good#&cursor=$forged", "http://h/?a#&%63ursor=$forged",
        "/last/?cursor=$forged#&cursor=$good",
        "/raw/?a=1#&cursor=$forged")
    {
        my $asked = $b->requests;
        my $raw = $t->raw("GET $uri HTTP/1.0\r\n\r\n");
        like($raw, qr{^HTTP/1.1 400.*X-Status: malformed}s,
            'behind a "#", where services look') or diag($uri);
        is($b->requests, $asked, 'the service was not asked');
    }
    like($t->raw("GET $_ HTTP/1.0\r\n\r\n"), qr{^HTTP/1.1 200},
        'a "#" that makes no difference')
        for "/?cursor=$good&a=b#c", "/?a=b#cursor=$forged", '/#', '/?#a=b',
            "/#cursor=$forged";
    like($t->raw("GET /?cursor=$good HTTP/1.0\r\n\r\n"), qr{^HTTP/1.1 200},
        'a raw request');

    my $name = 'a+b%26%3D%2b%25';
    gives('200 valid', 'any name', "/name/?$name=$good");
    gives('400 bad_signature', 'is found', "/name/?$name=$forged");
    gives('200 absent', 'and no other', "/name/?a=$forged");
    gives('400 bad_signature', 'arg:off', "/arg/?off=$forged");
};

subtest 'several of that name' => sub {
    for my $two ("cursor=$good&cursor=$good", "cursor=$good&cursor=",
        'cursor=&cursor=', "cursor&cursor=$good", "cursor=$good&curso%72=x")
    {
        my $short = $two =~ s/\Q$good\E/GOOD/gr;
        my $r = gives('400 duplicate', "reject: $short", "/?$two");
        is($r->json->{detail}, 'Invalid cursor: Cursor given more than once',
            'the text');
    }

    gives('200 valid', 'last: counts', "/last/?cursor=$forged&cursor=$good");
    gives('400 bad_signature', 'last: the first does not',
        "/last/?cursor=$good&cursor=$forged");
    gives('200 absent', 'last: is empty', "/last/?cursor=$forged&cursor=");
    gives('200 valid', 'first: counts', "/first/?cursor=$good&cursor=$forged");
    gives('400 bad_signature', 'first: the last does not',
        "/first/?cursor=$forged&cursor=$good");
    gives('200 absent', 'first: is empty', "/first/?cursor=&cursor=$forged");
};

subtest 'a header' => sub {
    gives('200 valid', 'one', '/header/', headers => ['X-Cursor' => $good]);
    gives('200 valid', 'in another case', '/header/',
        headers => ['x-CURSOR' => $good]);
    gives('400 bad_signature', 'forged', '/header/',
        headers => ['X-Cursor' => $forged]);
    gives('200 absent', 'not the argument', "/header/?cursor=$forged");
    gives('200 absent', 'empty', '/header/', headers => ['X-Cursor' => '']);
    gives('200 absent', 'another one', '/header/',
        headers => ['X-Cursor2' => $forged]);
    gives('400 malformed', 'nothing is decoded', '/header/',
        headers => ['X-Cursor' => $good =~ s/=/%3D/gr . '%3D']);
    gives('400 duplicate', 'two fields', '/header/',
        headers => ['X-Cursor' => $good, 'x-cursor' => $good]);
    gives('200 valid', 'the last of two', '/header-last/',
        headers => ['X-Cursor' => $forged, 'x-cursor' => $good]);
    gives('400 bad_signature', 'and that one only', '/header-last/',
        headers => ['X-Cursor' => $good, 'x-cursor' => $forged]);
    my @under = (port => $t->port('under'), headers => [X_Cursor => $forged]);
    gives('200 absent', 'with an underscore, where nginx drops it', '/header/',
        headers => [X_Cursor => 'x']);
    gives('400 bad_signature', 'with an underscore, where it passes', '/',
        @under);
    push @{ $under[3] }, 'X-Cursor', $good;
    gives('400 duplicate', 'with and without', '/', @under);
    gives('200 valid', 'a name with an underscore', '/under/',
        port => $t->port('under'), headers => ['X-Cursor' => $good]);
    gives('400 bad_signature', 'behind many others', '/header/',
        headers => [(map { ("X-H$_" => 1) } 1 .. 40), 'X-Cursor' => $forged]);
};

subtest 'a cookie' => sub {
    my $cookie = sub { return (headers => [map { (Cookie => $_) } @_]) };

    gives('200 valid', 'one', '/cookie/', $cookie->("c=$good"));
    gives('200 valid', 'among others', '/cookie/', $cookie->("a=b; c=$good; d"));
    gives('200 valid', 'in quotes', '/cookie/', $cookie->(qq(c="$good")));
    gives('400 bad_signature', 'forged', '/cookie/', $cookie->("c=$forged"));
    gives('400 bad_signature', 'with spaces as services take them',
        '/cookie/', $cookie->("a=b ; c = $forged"));
    gives('200 absent', 'names differ by case', '/cookie/',
        $cookie->("C=$forged"));
    gives('200 absent', 'empty', '/cookie/', $cookie->('c='));
    gives('400 duplicate', 'two in one field', '/cookie/',
        $cookie->("c=$good; c=$good"));
    gives('400 duplicate', 'two fields', '/cookie/',
        $cookie->("c=$good", "c=$good"));
    gives('200 valid', 'the first of three', '/cookie-first/',
        $cookie->("c=$good; c=$forged", "c=$forged"));
    gives('400 bad_signature', 'first: no other', '/cookie-first/',
        $cookie->("c=$forged; c=$good", "c=$good"));
    gives('200 valid', 'the last of three', '/cookie-last/',
        $cookie->("c=$forged", "c=$forged; c=$good"));
    gives('400 bad_signature', 'last: no other', '/cookie-last/',
        $cookie->("c=$good", "c=$good; c=$forged"));
};

subtest 'when=' => sub {
    my @key = ('X-API-Key' => 'k');
    gives('200 -', 'without a key nothing is looked at',
        "/when/?cursor=$forged");
    gives('200 -', 'nor with 0', "/when/?cursor=$forged",
        headers => ['X-API-Key' => '0']);
    gives('400 bad_signature', 'with a key', "/when/?cursor=$forged",
        headers => \@key);
    gives('200 valid', 'with a key and a genuine one', "/when/?cursor=$good",
        headers => \@key);
    gives('400 bad_signature', '00 is something', "/when/?cursor=$forged",
        headers => ['X-API-Key' => '00']);
    gives('200 -', 'several variables, none set', "/when2/?cursor=$forged");
    gives('400 bad_signature', 'several variables, one set',
        "/when2/?cursor=$forged&b=1");
};

subtest 'time' => sub {
    gives('200 valid', 'ttl=10m: 9 minutes',
        '/?cursor=' . $c->issue(1, age => 540));
    gives('400 expired', 'ttl=10m: 11 minutes',
        '/?cursor=' . $c->issue(1, age => 660));
    gives('200 valid', 'ttl=1h: 59 minutes',
        '/ttl/?cursor=' . $c->issue(1, age => 3540));
    my $r = gives('400 expired', 'ttl=1h: 61 minutes',
        '/ttl/?cursor=' . $c->issue(1, age => 3660));
    like($r->body, qr/TTL: 3600s/, 'is said');
    gives('200 valid', 'skew=60s: 30 seconds ahead',
        '/?cursor=' . $c->issue(1, age => -30));
    gives('400 future', 'skew=60s: 90 seconds ahead',
        '/?cursor=' . $c->issue(1, age => -90));
    gives('200 valid', 'skew=5m: 4 minutes ahead',
        '/ttl/?cursor=' . $c->issue(1, age => -240));
    gives('400 future', 'skew=5m: 6 minutes ahead',
        '/ttl/?cursor=' . $c->issue(1, age => -360));
    is(($t->get('/gone/?cursor=' . $c->issue(1, age => $hour))->status), 410,
        'expired_status=410');
    is(($t->get("/gone/?cursor=$forged")->status), 400,
        'is of expired ones only');
};

subtest 'modes' => sub {
    my $ts = time;
    my $signed = qq({"offset":40,"ts":$ts});
    my $odd = $c->envelope(qq({ "ts": $ts, "offset" : 40 }), $signed);

    gives('400 malformed', 'strict: not as it was issued', "/?cursor=$odd");
    gives('200 valid', 'compat: as the verifier reads it',
        "/compat/?cursor=$odd");
    gives('200 valid', 'compat: far ahead',
        '/compat/?cursor=' . $c->issue(1, age => -$hour));
    gives('400 bad_signature', 'compat: forged', "/compat/?cursor=$forged");
    gives('200 bad_signature', 'observe: forged', "/observe/?cursor=$forged");
    gives('200 malformed', 'observe: as strict', "/observe/?cursor=$odd");
    gives('200 duplicate', 'observe: twice', "/observe/?cursor=a&cursor=b");
    my $r = gives('200 expired', 'observe: expired',
        '/observe/?cursor=' . $c->issue(1, age => $hour));
    is($r->header('X-offset'), undef, 'and nothing of it is told');

    mode('observe');
    gives('200 bad_signature', 'the mode observe: forged',
        "/?cursor=$forged");
    gives('200 valid', 'the mode observe: genuine', "/?cursor=$good");
    mode('off');
    gives('200 -', 'the mode off: forged', "/?cursor=$forged");
    gives('200 -', 'the mode off: genuine', "/compat/?cursor=$good");
    is($t->get("/compat/?cursor=$good")->header('X-offset'), undef,
        'no claims');
    mode('enforce');
    gives('400 bad_signature', 'the mode enforce', "/?cursor=$forged");
};

subtest 'formats' => sub {
    my $now = time;
    my $p = sub { my ($add) = @_; return qq({"ts":@{[ $now + $add ]}}) };
    my $exp = sub { my ($add) = @_; return qq({"exp":@{[ $now + $add ]}}) };

    gives('200 valid', 'detached', '/detached/?cursor='
        . $c->detached($p->(0)));
    gives('400 expired', 'detached: ts', '/detached/?cursor='
        . $c->detached($p->(-700)));
    gives('400 expired', 'detached: exp', '/detached/?cursor='
        . $c->detached($exp->(-700)));
    gives('200 valid', 'detached: exp counts instead of the default ttl',
        '/detached/?cursor=' . $c->detached(
            qq({"ts":@{[ $now - 700 ]},"exp":@{[ $now + 700 ]}})));
    gives('400 expired', 'detached: but not instead of a ttl that is given',
        '/detached-ttl/?cursor=' . $c->detached(
            qq({"ts":@{[ $now - 700 ]},"exp":@{[ $now + 700 ]}})));
    gives('400 bad_signature', 'detached: by another key',
        '/detached/?cursor=' . $other->detached($p->(0)));
    gives('400 malformed', 'detached: an envelope', "/detached/?cursor=$good");

    gives('200 valid', 'jws', '/jws/?cursor=' . $c->jws($exp->(600)));
    gives('400 expired', 'jws: exp', '/jws/?cursor=' . $c->jws($exp->(-600)));
    gives('400 bad_signature', 'jws: by another key',
        '/jws/?cursor=' . $other->jws($exp->(600)));
    gives('400 bad_signature', 'jws: alg none', '/jws/?cursor='
        . $c->jws($exp->(600), header => '{"alg":"none"}'));
    my $r = gives('200 valid', 'jws: kid', '/jws/?cursor='
        . $old->jws($exp->(600), header => '{"alg":"HS256","kid":"old"}'));
    is($r->header('X-Key'), 'old', 'is the key\'s id');
    gives('400 bad_signature', 'jws: the kid of another key',
        '/jws/?cursor='
        . $old->jws($exp->(600), header => '{"alg":"HS256","kid":"new"}'));
};

subtest 'caps' => sub {
    (my $coded = $good) =~ s/(.)/sprintf '%%%02x', ord $1/ge;
    my $long = $c->issue(40, ts => time . '.' . '0' x 20 . '1');

    cmp_ok(length $good, '<', 170, 'of some 160 characters');
    gives('400 malformed', 'max_length', "/length/?cursor=$good");
    gives('400 malformed', 'of what is decoded', "/length/?cursor=$coded");
    gives('200 valid', 'not of what was sent', "/length170/?cursor=$coded");
    gives('400 malformed', 'far more', '/length/?cursor=' . 'a' x 2000);
    gives('400 malformed', 'more than 4096', '/?cursor=' . 'a' x 4097);
    gives('400 malformed', 'far more than 4096', '/?cursor=' . 'a' x 7000);

    my $deep = sub {
        my ($n) = @_;
        my $ts = time;
        my $f = '[' x $n . ']' x $n;
        return $c->envelope(qq({"offset":1,"ts":$ts,"filters":$f}),
            qq({"filters":$f,"offset":1,"ts":$ts}));
    };
    gives('200 valid', 'max_depth=3: three',
        '/depth/?cursor=' . $deep->(1));
    gives('400 malformed', 'max_depth=3: four',
        '/depth/?cursor=' . $deep->(2));
    gives('200 valid', 'elsewhere it is 32: 32', '/?cursor=' . $deep->(30));
    gives('400 malformed', 'elsewhere it is 32: 33',
        '/?cursor=' . $deep->(31));
    gives('200 valid', 'max_members=3: three', '/members/?cursor='
        . $c->issue(1, more => ',"z":1'));
    gives('400 malformed', 'max_members=3: four', '/members/?cursor='
        . $c->issue(1, more => ',"y":1,"z":1'));
    gives('200 valid', 'max_digits=10: ten', '/digits/?cursor='
        . $c->issue(1234567890));
    gives('400 malformed', 'max_digits=10: eleven', '/digits/?cursor='
        . $c->issue(12345678901));
    gives('200 valid', 'elsewhere it is 4300', '/?cursor='
        . $c->issue(1 . '0' x 2000));
};

subtest 'claims bind' => sub {
    my $ts = time;
    my $route = sub {
        my ($route, $more, $uri) = @_;
        $more //= '';
        my $signed = $more =~ /^,"key"/
            ? '{' . substr($more, 1) . qq(,"offset":1,"route":$route,"ts":$ts})
            : qq({"offset":1,"route":$route,"ts":$ts$more});
        return ($uri // '/bound/one/') . '?cursor=' . $c->envelope(
            qq({"offset":1,"ts":$ts,"route":$route$more}), $signed);
    };

    gives('200 valid', 'the route of the request', $route->('"one"'));
    my $r = gives('400 mismatch', 'another route', $route->('"two"'));
    is($r->json->{detail},
        'Invalid cursor: Cursor is not valid for this request', 'the text');
    gives('400 mismatch', 'in another case', $route->('"One"'));
    gives('400 mismatch', 'none', "/bound/one/?cursor=$good");
    gives('400 mismatch', 'an empty value matches nothing',
        $route->('""', undef, '/bound/123/'));
    gives('400 mismatch', 'not even none', "/bound/123/?cursor=$good");
    gives('200 valid', 'hashed',
        $route->('"sha256:' . sha256_hex('one') . '"'));
    gives('400 mismatch', 'another hash',
        $route->('"sha256:' . sha256_hex('two') . '"'));
    gives('200 absent', 'without a cursor there is nothing to bind',
        '/bound/one/');
    gives('400 malformed', 'elsewhere such a member is not known',
        $route->('"one"', undef, '/'));
    gives('400 bad_signature', 'forged is forged',
        '/bound/one/?cursor=' . $forged);
    gives('400 expired', 'expired is expired', '/bound/one/?cursor='
        . $c->issue(1, age => $hour));

    my @k = (headers => ['X-API-Key' => 'secret']);
    gives('200 valid', 'two claims', $route->('"two"', ',"key":"secret"',
        '/bound/two/'), @k);
    gives('400 mismatch', 'the second is another',
        $route->('"two"', ',"key":"secre"', '/bound/two/'), @k);
    gives('400 mismatch', 'the first is another',
        $route->('"one"', ',"key":"secret"', '/bound/two/'), @k);
    gives('400 mismatch', 'one is missing', $route->('"two"', '',
        '/bound/two/'), @k);
};

subtest 'claims as variables' => sub {
    my $ts = time;
    my $payload = '{"exp":' . ($ts + 600) . ',' . join(',', (
        '"s":"a \u00e4 b"', '"i":-12', '"f":1.50', '"big":' . '9' x 40,
        '"t":true', '"nil":null', '"arr":[1]', '"obj":{"a":1}',
        '"ctl":"a\\nb"', '"uni":"\\ud800"', '"CASE":"c"', '"case-NAME":"d"',
        '"TWICE":1', '"Twice":2', '"empty":""', '"offset":false',
        '"\\u0073x":1')) . '}';

    my %want = (s => "a \xc3\xa4 b", i => '-12', f => '1.5', big => '9' x 40,
        t => 'true', case => 'c', case_name => 'd', offset => 'false');

    for my $place ('detached', 'jws') {
        my $r = gives('200 valid', $place, "/$place/?cursor="
            . $c->$place($payload));

        is($r->header("X-$_"), $want{$_}, "$place: $_") for @claims;
    }

    my $r = $t->get('/compat/?cursor=' . $c->issue(7,
        more => ',"\u007a":1,"z1":{}', signed => qq({"offset":7,"ts":$ts,)
            . '"z":1,"z1":{}}', ts => $ts));
    is($r->status, 200, 'envelope');
    is($r->header('X-offset'), 7, 'the payload\'s');

    $r = $t->get("/detached/?cursor=" . $other->detached($payload));
    is($r->header("X-$_"), undef, "refused: no $_") for qw(s i);

    $r = $t->get("/observe/?cursor=$forged");
    is($r->header('X-offset'), undef, 'observed: nothing of a forged one');
    $r = $t->get("/observe/?cursor=$good");
    is($r->header('X-offset'), 40, 'observed: of a genuine one');
};

subtest 'levels' => sub {
    gives('400 bad_signature', 'from the server', "/any/?cursor=$forged");
    gives('200 -', 'off', "/off/?cursor=$forged");
    gives('400 bad_signature', 'on again', "/off/on/?cursor=$forged");
    gives('400 bad_signature', 'an "if" that is true',
        "/if/?x=1&cursor=$forged");
    gives('400 bad_signature', 'an "if" that is not', "/if/?cursor=$forged");
    gives('400 bad_signature', 'an "if" with a proxy_pass',
        "/if2/?x=1&cursor=$forged");
    gives('200 valid', 'which takes a genuine one', "/if2/?x=1&cursor=$good");
    is($t->post("/except/?cursor=$forged")->status, 400, 'limit_except');
    is($t->post("/except/?cursor=$good")->status, 200,
        'limit_except, a genuine one');
    gives('400 bad_signature', 'a regex', "/regex/1?cursor=$forged");
    gives('400 bad_signature', 'an exact one', "/exact?cursor=$forged");

    is($t->get("/gate?cursor=$forged")->status, 200, 'not our endpoints');

    is($t->get("/old.key?cursor=$forged", port => $t->port('none'))->status,
        400, 'a server without a location');
    is($t->get("/new.key?cursor=$good", port => $t->port('none'))->status,
        200, 'which takes a genuine one');
};

subtest 'counts' => sub {
    my $cursors = $g->status->{cursors};

    my @missing = grep { !$cursors->{$_} } qw(shop.example/ shop.example/if/
        shop.example/bound/two/ shop.example/exact _), 're.x/r/';
    is("@missing", 're.x/r/', 'every location is there');
    ok($cursors->{'shop.example~ ^/regex/\d+$'}, 'a regex is')
        or diag join "\n", sort keys %$cursors;
    ok((grep { m{^~.*re.*/r/$} } keys %$cursors), 'a server\'s regex is');

    my @surplus = grep { m{^shop\.example$|/off/$|gate} } keys %$cursors;
    is("@surplus", '', 'and no place that checks nothing or has no requests');

    is($cursors->{'shop.example/if2/'}{requests}, 2,
        'an "if" counts for its location');

    $t->get("/if3?x=1&cursor=$good");
    $cursors = $g->status->{cursors};
    is(join(' ', map { "$_ $cursors->{$_}{requests}" }
        grep { m{/if3} } keys %$cursors), 'shop.example~ ^/if3 1',
        'of a regex, too');

    my $last = $cursors->{'shop.example/when/'};
    $t->get("/when/?cursor=$good") for 1 .. 3;
    $t->get("/when/?cursor=$_", headers => ['X-API-Key' => 1])
        for $good, $good, $forged, $forged, $forged, '', 'x', 'x&cursor=',
            $c->issue(1, age => $hour), $c->issue(1, age => -$hour);

    my $now = $g->status->{cursors}{'shop.example/when/'};
    my %d = map { $_ => $now->{status}{$_} - $last->{status}{$_} }
        keys %{ $now->{status} };

    is_deeply(\%d, { valid => 2, bad_signature => 3, absent => 1,
        malformed => 1, duplicate => 1, expired => 1, future => 1,
        mismatch => 0 }, 'each by its status');
    is($now->{requests} - $last->{requests}, 10, 'requests');
    is($now->{with_cursor} - $last->{with_cursor}, 9, 'with a cursor');
    is($now->{refused} - $last->{refused}, 7, 'refused');
    is($now->{observed}, 0, 'none observed');
    is($now->{verify_us}{count} - $last->{verify_us}{count}, 8,
        'verified where there was one to verify');

    $last = $g->status->{cursors}{'shop.example/observe/'};
    $t->get("/observe/?cursor=$_") for $forged, $good, '', 'x';
    $now = $g->status->{cursors}{'shop.example/observe/'};
    is($now->{observed} - $last->{observed}, 2, 'observed');
    is($now->{refused}, 0, 'and not refused');

    my $hits = sub {
        return { map { $_->{id} => $_->{hits} } @{ $g->status->{cursor_keys} } }
    };
    my $then = $hits->();
    $t->get("/?cursor=$_") for $good, $good, $forged, $old->issue(1), '',
        $c->issue(1, age => $hour);
    my $h = $hits->();
    is($h->{new} - $then->{new}, 2, 'hits of the new key');
    is($h->{old} - $then->{old}, 1, 'hits of the old key');

    mode('off');
    $last = $g->status->{cursors}{'shop.example/'};
    $t->get("/?cursor=$_") for $forged, $good, '';
    $now = $g->status->{cursors}{'shop.example/'};
    is_deeply($now, $last, 'in the mode off nothing is counted');

    mode('observe');
    $t->get("/?cursor=$forged");
    $now = $g->status->{cursors}{'shop.example/'};
    is($now->{observed} - $last->{observed}, 1, 'in the mode observe it is');
    is($now->{refused} - $last->{refused}, 0, 'and not as refused');
    mode('enforce');
};

subtest 'the log' => sub {
    my $from = $t->log_size;

    # until two of them are in one second
    my ($n, $began) = (0, time);
    wait_for {
        $t->get("/log/?cursor=x$_") for 1 .. 5;
        $n += 5;
        $t->log_from($from) =~ /location "\/log\/"[^\n]*[1-9] more since/
    } what => 'a line that says how many there were';

    my $log = $t->log_from($from);
    like($log, qr/\[warn\] \d+#\d+: gate: cursor refused, malformed, in location "\/log\/" of "shop\.example", 0 more since$/m,
        'the first one');
    my $lines = () = $log =~ /cursor refused/g;
    cmp_ok($lines, '<=', time - $began + 2, "$lines lines of $n refusals");

    $t->get("/observe/?cursor=$forged");
    $t->wait_log(qr/cursor would be refused, bad_signature, in location "\/observe\/"/);

    my $all = Gate::slurp($t->dir . '/error.log');
    unlike($all, qr/\Q$_\E/, 'not a cursor in it')
        for $good, $forged, substr($good, 0, 24);
    unlike($all, qr/\Q@{[ $_->secret ]}\E/, 'not a key') for $c, $old;
    unlike($all, qr/cursor=/, 'and no request line');
};

$t->done;
done_testing;
