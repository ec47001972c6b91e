#!/usr/bin/perl

# The documentation is true: every directive is described, every example
# starts, every command and link of the README exists.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Gate;
use Test::More;

my $root = Gate::root();
my $doc = Gate::slurp("$root/docs/directives.md");

# what the module knows, from its own table

my $module = Gate::slurp("$root/src/http/ngx_http_gate_module.c");
my ($table) = $module =~ /ngx_http_gate_commands\[\] = \{(.*?)ngx_null_command/s;
my @directives = $table =~ /ngx_string\("(\w+)"\)/g;

cmp_ok(scalar @directives, '>', 10, 'the module has directives');

my %section;
$section{$1} = $2 while $doc =~ /^### (gate_\w+)\n(.*?)(?=^##|\z)/msg;

is_deeply([ sort keys %section ], [ sort @directives ],
    'docs/directives.md has a section for every directive and no other');

for my $name (@directives) {
    my $text = $section{$name} // '';

    like($text, qr/\| Syntax \| `\Q$name\E.*;` \|\n\| Default \|.*\n\| Context \|/,
        "$name has syntax, default and context");
    like($text, qr/```nginx\n.*?\b$name\b/s, "$name has an example");
}

my $variables = Gate::slurp("$root/src/http/ngx_http_gate_variables.c");
my ($list) = $variables =~ /ngx_http_gate_vars\[\] = \{(.*?)ngx_http_null_variable/s;

like($doc, qr/^\| `\$\Q$_\E` \|/m, "\$$_ is described")
    for map { /_\z/ ? "${_}NAME" : $_ } $list =~ /ngx_string\("(\w+)"\)/g;

# examples: each stands alone in http{}, unless it begins with load_module

for my $file ('README.md', glob("$root/docs/*.md")) {
    my $path = $file =~ m{^/} ? $file : "$root/$file";
    my ($base) = $path =~ m{([^/]+)$};
    my $text = Gate::slurp($path);
    my $n = 0;

    while ($text =~ /^```nginx\n(.*?)^```/msg) {
        $n++;
        runs("example $n of $base", $1);
    }

    for my $link ($text =~ /\]\(([^)#\s:]+)(?:#[^)]*)?\)/g) {
        my ($dir) = $path =~ m{^(.*)/};
        ok(-e "$dir/$link", "$base: link to $link");
    }
}

for my $conf (glob("$root/conf/*.conf")) {
    my ($base) = $conf =~ m{([^/]+)$};
    runs("conf/$base", Gate::slurp($conf));
}

# the two commands and the others that the README names are make's

my $readme = Gate::slurp("$root/README.md");
my $makefile = Gate::slurp("$root/Makefile");

for my $target ($readme =~ /\bmake (\w+)/g) {
    like($makefile, qr/^$target\b.*:/m, "README: make $target exists");
}

like($readme, qr/\bmake demo\b/, 'README has the first command');
like($readme, qr/\bmake test\b/, 'README has the second command');

done_testing;


sub runs {
    my ($name, $text) = @_;

    my $t = Gate->new;

    for my $secret ('gate.token', 'sticky.key', 'redis.password',
        'cursor.key', 'cursor.old.key')
    {
        my $file = $t->write_file($secret, '0123456789abcdef' x 3 . "\n");
        chmod 0600, $file;
    }

    $text =~ s{/etc/nginx/}{%%DIR%%/}g;
    $text =~ s{/var/lib/nginx/|/var/www/}{%%DIR%%/}g;
    $text =~ s{listen\s+(?:80|443 ssl);}{listen 127.0.0.1:%%PORT:http%%;}g;

    if ($text =~ s/^load_module .*?;//m) {
        $text =~ s/^\s*events\s*\{.*?\}//ms;
        $text =~ s/^http \{(.*)\}/$1/ms;
    }

    $text .= "\nserver { listen 127.0.0.1:%%PORT:http%%; }\n"
        unless $text =~ /\blisten\b/;

    my ($code, $out) = $t->test_http($text);

    is($code, 0, "$name passes nginx -t") or diag($out);

    $t->http($text);

    ok(eval { $t->start; 1 }, "$name starts") or diag($@);

    is($t->stop, 0, "$name stops");
}
