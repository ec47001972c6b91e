#!/usr/bin/perl

# gate_state: what survives which end of nginx, and what happens when the
# disk does not help.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Gate::Rollout;
use JSON::PP ();
use Test::More;
use Time::HiRes ();

# root may write anywhere, so the workers are somebody else
my $USER = 'nobody ' . getgrgid((getpwnam 'nobody')[3]);

my $t = Gate->new(user => $USER);
my $g = Gate::Rollout->new($t);

my $stable = $t->backend('ok', body => 'stable', name => 'stable');
my $canary = $t->backend('status', 500, name => 'canary');

my $dir = $t->dir . '/state';
my $file = "$dir/state.json";

# A configuration for this nginx, or text for another one.

sub text {
    my ($t, $g, %opt) = @_;
    my %o = (weight => '99.99%', id => 1, canary => 'c', zone => '16m',
        state => $dir, port => 'http', rules => 'error_rate=5% min=5',
        extra => '', %opt);

    return $t->http_text(workers => 2, <<"EOF_CONF");
    proxy_next_upstream error timeout http_500;
    gate_zone $o{zone};
    gate_state $o{state};

    upstream s { server @{[ $stable->addr ]}; }
    upstream c { server @{[ $canary->addr ]}; }
    upstream c2 { server @{[ $canary->addr ]}; }
    upstream shop {
        gate_canary s $o{canary} weight=$o{weight} id=$o{id};
        gate_breach $o{rules};
        gate_label deployment=4711;
    }
    upstream other { gate_canary s c weight=10% id=7; }

    server {
        listen 127.0.0.1:%%PORT:$o{port}%%;
        gate_maintenance on;
@{[ $g->endpoints ]}
        location / {
            proxy_pass http://shop;
            add_header X-Arm \$gate_arm_shop always;
            add_header X-Worker \$pid always;
        }
    }
    $o{extra}
EOF_CONF
}

sub configure { $t->conf(text($t, $g, @_)) }

sub saved {
    my ($who) = @_;
    wait_for { !($who || $g)->status->{state_store}{pending} }
        what => 'the state to be saved';
}

sub flip {
    $t->get('/') for 1 .. 8;
    return $g->wait_state('shop', 'rolled_back');
}

# Ends everything at once: nobody gets to write a last word.

sub kill_all {
    my @workers = $t->workers(all => 1);
    $t->stop('KILL');
    kill 'KILL', @workers;
    wait_for { !grep { Gate::Proc::running($_) } @workers }
        what => 'the workers to be gone';
}

sub records {
    my ($from) = @_;
    my $n = () = $t->log_from($from || 0) =~ /was rolled back: /g;
    return $n;
}

configure();
$t->start;

subtest 'rolled back is rolled back after a restart' => sub {
    my $before = flip();
    wait_for { $before = $g->rollout('shop'); $before->{last_record} }
        what => 'the record';
    saved();

    for my $end ('QUIT', 'TERM', 'KILL') {
        my $from = $t->log_size;
        $end eq 'KILL' ? kill_all() : $t->stop($end);
        $t->start;

        my $now = $g->rollout('shop');
        is_deeply([@$now{qw(state weight epoch reason source last_record)}],
            [@$before{qw(state weight epoch reason source last_record)}],
            "after $end");
        is($t->get('/')->header('x-arm'), 'stable', 'and so its requests go');

        # the agent has had its say
        wait_for { $g->status->{agent}{alive} } what => 'an agent';
        saved();
        is(records($from), 0, 'it is no new flip');
    }

    is(records(), 1, 'one record in all');
};

subtest 'other rules do not make a new flip of an old one' => sub {
    my $from = $t->log_size;
    my $epoch = $g->rollout('shop')->{epoch};
    configure(rules => 'error_rate=6% min=6');
    $t->reload;
    my $now = $g->rollout('shop');
    is_deeply([@$now{qw(state epoch)}], ['rolled_back', $epoch], 'it stays');
    is($now->{last_record}{reason}, 'error_rate=5% min=5', 'with its record');
    wait_for { $g->status->{agent}{alive} } what => 'an agent';
    saved();
    is(records($from), 0, 'none is written');

    # nor do they wipe out what it was decided on
    $g->api('canary/shop/retry');
    my $before = flip()->{arms}{canary}{failures};
    configure();
    $t->reload;
    is($g->rollout('shop')->{arms}{canary}{failures}, $before,
        'its evidence stays to be looked at');
    saved();
};

subtest 'a new release does not inherit it' => sub {
    my $epoch = $g->rollout('shop')->{epoch};

    configure(id => 2);
    $t->reload;
    my $now = $g->rollout('shop');
    is_deeply([@$now{qw(state id weight)}], ['progressing', 2, 99.99],
        'a new id, on reload');
    cmp_ok($now->{epoch}, '>', $epoch, 'is a new epoch');
    is($now->{last_record}{id}, 1, 'the last record is of the old one');
    flip();
    saved();

    configure(id => 3);
    $t->stop;
    $t->start;
    $now = $g->rollout('shop');
    is_deeply([@$now{qw(state id weight)}], ['progressing', 3, 99.99],
        'a new id, on restart');
    flip();
    saved();

    configure(id => 3, canary => 'c2');
    $t->stop;
    $t->start;
    $now = $g->rollout('shop');
    is_deeply([@$now{qw(state canary)}], ['progressing', 'c2'],
        'another canary');

    $g->api('canary/shop/promote');
    saved();
    configure(id => 4, canary => 'c2', weight => '5%');
    $t->stop;
    $t->start;
    $now = $g->rollout('shop');
    is_deeply([@$now{qw(state weight)}], ['progressing', 5],
        'nor the 100 % of one that was promoted');
};

subtest 'what was under way at a restart has its record when it flips' => sub {
    configure(id => 5);
    $t->reload;
    saved();
    $t->stop;
    $t->start;

    my $from = $t->log_size;
    is($g->rollout('shop')->{state}, 'progressing', 'it goes on');
    flip();
    wait_for { ($g->rollout('shop')->{last_record} || {})->{id} eq 5 }
        what => 'its record';
    is(records($from), 1, 'a record is written');
    saved();

    configure(id => 4, canary => 'c2', weight => '5%');
    $t->reload;
};

subtest 'the stored weight wins over that of the file' => sub {
    $g->api('canary/shop/weight', { weight => 25 });
    saved();
    $t->stop;

    my $from = $t->log_size;
    configure(id => 4, canary => 'c2', weight => '10%');
    $t->start;
    my $now = $g->rollout('shop');
    is($now->{weight}, 25, 'the stored one');
    is($now->{weight_configured}, 10, 'the file has another');
    is($now->{weight_differs}, JSON::PP::true, 'the status shows it');
    like($t->log_from($from),
        qr/\[notice\].*"shop" is progressing at 25.*10\.00%/, 'so does the log');
};

subtest 'maintenance that was switched on stays on' => sub {
    my $before = $g->api('maintenance', { on => JSON::PP::true,
        message => "z\x{fc}r\x{fc}ck um sechs", actor => "J\x{fc}rgen",
        retry_after => 77 });
    saved();
    kill_all();
    $t->start;

    my $now = $g->status->{maintenance}{global};
    is($now->{$_}, $before->{$_}, $_) for qw(on message retry_after actor
        source);
    is($t->get('/')->status, 503, 'closed');

    $g->api('maintenance', 'off');
    saved();
    $t->stop;
    $t->start;
    is($t->get('/')->status, 200, 'and when it was switched off, off');
};

my $good = Gate::slurp($file);

# Starts with something else in place of the state file.

sub start_with {
    my ($what, $make, $check) = @_;

    $t->stop;
    unlink $file;
    unlink glob "$file.unreadable.*";
    $make->();

    my $from = $t->log_size;
    $t->start;

    subtest $what => sub {
        is($t->get('/')->status, 200, 'nginx runs');
        like($t->log_from($from), qr/\[error\].*state file .* is not used/,
            'says so');

        $g->api('canary/other/weight', { weight => 33 });
        saved();
        my $n = () = $t->log_from($from) =~ /state file .* is not used/g;
        is($n, 1, 'once');

        my @copies = glob "$file.unreadable.*";
        is(@copies, 1, 'a copy is kept');
        $check->($copies[0]);

        my $state = Gate::json(Gate::slurp($file));
        my ($other) = grep { $_->{name} eq 'other' } @{ $state->{rollouts} };
        is($other->{weight}, 3300, 'later state is saved');
        is($g->status->{state_store}{error}, undef, 'and all is well');
    };

    # the copy of a directory
    system 'rm', '-rf', glob "$file.unreadable.*";
}

subtest 'a state file that cannot be used' => sub {
    my %text = (
        torn    => substr($good, 0, length($good) / 2),
        foreign => '{"some": "thing"}',
        empty   => '',
        newer   => $good =~ s/"version": 1/"version": 99/r,
        binary  => join('', map { chr } 0 .. 255),
    );

    for my $what (sort keys %text) {
        start_with($what, sub { $t->write_file($file, $text{$what}) },
            sub { is(Gate::slurp($_[0]), $text{$what}, 'byte for byte') });
    }

    start_with('directory', sub { mkdir $file or die },
        sub { ok(-d $_[0], 'a directory') });
    start_with('loop', sub { symlink 'state.json', $file or die },
        sub { is(readlink $_[0], 'state.json', 'a link') });
};

subtest 'a directory that cannot be written to' => sub {
    my $from = $t->log_size;
    my $said = sub {
        my $n = () = $t->log_from($from) =~ /state in .* is not saved/g;
        return $n;
    };

    chmod 0555, $dir or die;
    $g->api('canary/other/weight', { weight => 20 });
    wait_for { $g->status->{state_store}{error} } what => 'the error';
    my $errors = $g->status->{state_store}{errors};
    wait_for { $g->status->{state_store}{errors} > $errors + 1 }
        what => 'two more tries';
    is($said->(), 1, 'it is said once');
    is($g->status->{state_store}{pending}, JSON::PP::true, 'still to do');
    is($t->get('/')->status, 200, 'nginx runs');

    chmod 0755, $dir or die;
    saved();
    is($g->status->{state_store}{error}, undef, 'it recovers');
    like(Gate::slurp($file), qr/"weight": 2000/, 'nothing is lost');

    # or one that is gone
    $from = $t->log_size;
    rename $dir, "$dir.gone" or die;
    $t->write_file($dir, 'a file');
    $g->api('canary/other/weight', { weight => 30 });
    wait_for { $g->status->{state_store}{error} } what => 'the error';
    is($said->(), 1, 'a file in its place is said once');
    unlink $dir or die;
    rename "$dir.gone", $dir or die;
    saved();
    like(Gate::slurp($file), qr/"weight": 3000/, 'nothing is lost');
};

subtest 'what a writer that was killed left does not pile up' => sub {
    kill_all();
    $t->write_file("$dir/state.json.new", 'half a st');
    $t->start;
    $g->api('canary/other/weight', { weight => 31 });
    saved();
    is_deeply([sort map { m{([^/]+)$} } glob "$dir/*"],
        ['lock', 'state.json'], 'only these two are there');
};

subtest 'a second nginx in the same directory keeps out' => sub {
    my $t2 = Gate->new(user => $USER);
    my $g2 = Gate::Rollout->new($t2);
    $t2->conf(text($t2, $g2, id => 4, canary => 'c2'));
    $t2->start;

    is($g2->rollout('other')->{weight}, 31, 'it reads the state');
    my $before = Gate::slurp($file);
    $g2->api('canary/other/weight', { weight => 77 });
    wait_for { $g2->status->{state_store}{error} } what => 'its complaint';
    is($g2->status->{state_store}{locked}, JSON::PP::false, 'no lock');
    is(Gate::slurp($file), $before, 'it writes nothing');
    is($g->status->{state_store}{locked}, JSON::PP::true, 'the first has it');

    $g->api('canary/shop/abort');
    saved();
    $t->stop;
    wait_for { $g2->status->{state_store}{locked} } what => 'the succession';
    $g2->wait_state('shop', 'rolled_back');
    pass('its successor knows what the first one did');
    saved($g2);
    $t2->done;

    $t->start;
};

subtest 'what the old nginx flips during an upgrade survives it' => sub {
    configure(id => 8);
    $t->reload;
    is($g->rollout('shop')->{state}, 'progressing', 'a new release');
    saved();

    my $c = $t->conn;
    $c->request(GET => '/gate');
    my @old = $t->workers;
    $t->upgrade(quit_old => 0);

    $c->request(GET => '/') for 1 .. 8;
    my $worker = $c->request(GET => '/')->header('x-worker');
    ok((grep { $_ == $worker } @old), 'the old one is still asked');
    my $old = $c->request(GET => '/gate')->json->{rollouts}{shop};
    is($old->{state}, 'rolled_back', 'and flips');

    $c->close;
    $t->finish_upgrade;
    my $new = $g->wait_state('shop', 'rolled_back');
    is($new->{epoch}, $old->{epoch}, 'the new one takes it over');
    wait_for { $g->rollout('shop')->{last_record} } what => 'its record';
    is_deeply($g->rollout('shop')->{last_record}, $old->{last_record},
        'with its record');
    is($t->get('/')->header('x-arm'), 'stable', 'and obeys');
};

subtest 'even when it flips while its last requests drain' => sub {
    configure(id => '8a');
    $t->reload;
    saved();

    $canary->next('hold', status => 500) for 1 .. 10;
    my @conns = map { $t->conn(timeout => 30) } 1 .. 10;
    my $seen = $canary->requests;
    $_->send(GET => '/') for @conns;
    wait_for { $canary->requests >= $seen + 10 } what => 'the requests';

    $t->upgrade(quit_old => 0);
    is($g->rollout('shop')->{state}, 'progressing', 'not yet');
    kill 'QUIT', $t->{old_pid};
    wait_for { $g->status->{state_store}{locked} }
        what => 'the new one to have the directory';

    $canary->release;
    is($_->recv->body, 'stable', 'a request of the old one') for @conns;
    $t->finish_upgrade;
    my $new = $g->wait_state('shop', 'rolled_back');
    is($new->{last_record}{reason}, 'error_rate=5% min=5', 'its record');
    saved();
    like(Gate::slurp($file), qr/"state": "rolled_back"/, 'and on disk');
    is_deeply([sort map { m{([^/]+)$} } glob "$dir/*"],
        ['lock', 'state.json'], 'nothing else is left there');
};

subtest 'another size of the zone keeps switches and rollouts' => sub {
    $g->api('maintenance', { on => JSON::PP::true, message => 'later' });
    my $before = $g->rollout('shop');
    my $weight = $g->rollout('other')->{weight};
    configure(id => '8a', zone => '20m');
    $t->reload;

    my $now = $g->status;
    is($now->{zone}{size}, 20 * 1024 * 1024, 'it has that size');
    is_deeply([@{ $now->{rollouts}{shop} }{qw(state epoch last_record)}],
        [@$before{qw(state epoch last_record)}], 'the rollout');
    is($now->{rollouts}{other}{weight}, $weight, 'the other');
    is($now->{maintenance}{global}{message}, 'later', 'the switch');
    $t->log_like(qr/\[warn\].*gate zone has a new size/, 'the log says so');
    $g->api('maintenance', 'off');
    saved();
};

subtest 'a reload that fails and nginx -t change nothing' => sub {
    my $strip = sub {
        my $s = $g->status;
        return { %{ $s->{rollouts} }, generation => $s->{generation},
            maintenance => $s->{maintenance}{global}{control} };
    };
    my $before = $strip->();
    my $text = Gate::slurp($file);

    my %new = (id => 9, weight => '50%', rules => 'error_rate=9% min=9');
    my ($code, $out) = $t->test_conf(text($t, $g, %new));
    is($code, 0, 'nginx -t');
    is_deeply($strip->(), $before, 'changes nothing');

    $t->allow(qr/bind\(\) to .* failed/, qr/still could not bind/);
    configure(%new, extra => 'server { listen ' . $stable->addr . '; }');
    is($t->reload(may_fail => 1, timeout => 20), undef,
        'a port that is in use');
    is_deeply($strip->(), $before, 'changes nothing');
    is(Gate::slurp($file), $text, 'nor in the file');

    # nginx tries for a while
    $t->wait_log(qr/still could not bind/, timeout => 20);
    configure(%new);
    $t->reload;
    is($g->rollout('shop')->{id}, 9, 'when it is mended it counts');
};

$t->done;
done_testing;
