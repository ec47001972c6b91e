#!/usr/bin/perl

# Copyright (C) nginx-gate authors

# style.pl DIR...: checks what no compiler does, the form of the sources and
# the direction of their includes.  One line per offence, exit 1 if there are
# any.
#
# style.pl --selftest: proves for each rule that it can fail, and that a clean
# file passes all of them.

use warnings;
use strict;

use File::Find;

use constant {
    MAX_COLUMNS  => 80,
    MAX_FILE     => 900,
    MAX_FUNCTION => 100,
};

# includes point one way, to the same or a smaller number
my %layer = (core => 0, node => 1, fleet => 2, http => 3, ctl => 4);

my $prefix = qr/^(?:gate_|ngx_gate_|ngx_http_gate_)/;

# src/core takes time and randomness as arguments
my $impure = qr/\b(time|clock|clock_gettime|gettimeofday|rand|srand|random
                   |srandom|drand48|rand_r|getrandom|getentropy|arc4random
                   |RAND_bytes)\s*\(/x;


if (@ARGV && $ARGV[0] eq '--selftest') {
    exit selftest();
}

my $bad = 0;

find({ no_chdir => 1, wanted => sub {
    return unless -f && /\.(?:c|h|inc|lua|pl|sh)$/;

    my $name = $_;

    open my $fh, '<:encoding(UTF-8)', $name or die "$name: $!\n";
    local $/;
    my $text = <$fh>;

    for (check($name, defined $text ? $text : '')) {
        my ($line, $rule, $message) = @$_;
        print "$name:$line: $message [$rule]\n";
        $bad++;
    }
} }, @ARGV ? @ARGV : 'src');

exit($bad ? 1 : 0);


# All offences in a file: [ line, rule, message ]...

sub check {
    my ($name, $text) = @_;

    my @found;
    my $say = sub { push @found, [ @_ ] };
    my @raw = split /\n/, $text, -1;

    if (@raw && $raw[-1] eq '') {
        pop @raw;
    } else {
        $say->(scalar @raw, 'newline', 'no newline at the end of the file');
    }

    for my $i (0 .. $#raw) {
        my $n = $i + 1;

        $say->($n, 'columns', 'line over ' . MAX_COLUMNS . ' columns')
            if length $raw[$i] > MAX_COLUMNS;
        $say->($n, 'tab', 'tab') if $raw[$i] =~ /\t/;
        $say->($n, 'space', 'space at the end of the line')
            if $raw[$i] =~ /\s$/;
    }

    $say->(MAX_FILE + 1, 'file', @raw . ' lines, more than ' . MAX_FILE)
        if @raw > MAX_FILE;

    return @found unless $name =~ /\.[ch]$/;

    my @code = code($text);

    pop @code if @code > @raw;

    for my $i (0 .. $#code) {
        my ($n, $line) = ($i + 1, $code[$i]);

        $say->($n, 'comment', '// comment') if $line =~ m{//};
        $say->($n, 'keyword', "no space after \"$1\"")
            if $line =~ /\b(if|for|while|switch)\(/;
        $say->($n, 'assert', 'assert() would end a worker')
            if $line =~ /\bassert\s*\(/;
    }

    layers($name, \@raw, \@code, $say);
    functions(\@raw, \@code, $say);

    return sort { $a->[0] <=> $b->[0] } @found;
}


# The text by lines with comments and what is in quotes blanked.

sub code {
    my ($text) = @_;

    $text =~ s{
        (?<str> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
        | (?<rem> /\* .*? \*/ )
        | (?<eol> //[^\n]* )
    }{
        my $s = $&;
        if (defined $+{str}) {
            $s = substr($s, 0, 1) . '_' x (length($s) - 2) . substr($s, -1);
        } elsif (defined $+{rem}) {
            $s =~ s/[^\n]/ /g;
        }
        $s;
    }gsex;

    return split /\n/, $text, -1;
}


sub layers {
    my ($name, $raw, $code, $say) = @_;

    my ($dir) = $name =~ m{(?:^|/)src/(\w+)/[^/]+$};
    return unless defined $dir && exists $layer{$dir};

    for my $i (0 .. $#$raw) {
        my $n = $i + 1;

        if ($code->[$i] =~ /^\s*#\s*include\b/
            && $raw->[$i] =~ /include\s+([<"])([^>"]+)[>"]/)
        {
            my ($quote, $file) = ($1, $2);

            if ($quote eq '"' && $file =~ /\.\./) {
                $say->($n, 'layer', 'include by ".."');

            } elsif ($quote eq '"' && $file =~ m{^(\w+)/}) {

                if (!exists $layer{$1}) {
                    $say->($n, 'layer', "include from $1/, not one of ours");

                } elsif ($layer{$1} > $layer{$dir}) {
                    $say->($n, 'layer', "$dir/ includes from $1/");
                }
            }

            if ($dir eq 'core' && $file =~ m{(?:^|/)(?:ngx_|nginx)}) {
                $say->($n, 'core', "core/ includes $file");
            }
        }

        if ($dir eq 'core' && $code->[$i] =~ $impure) {
            $say->($n, 'core', "core/ calls $1()");
        }
    }
}


# A function's head begins in the first column, ends with ")" before "{".

sub functions {
    my ($raw, $code, $say) = @_;

    my $i = 0;

    while ($i < @$code) {

        if ($code->[$i] !~ /^[A-Za-z_][\w\s\*]*\(/
            || $code->[$i] =~ /^(?:typedef|struct|union|enum)\b[^(]*$/)
        {
            $i++;
            next;
        }

        # to the line that decides: a body, a declaration, something else

        my $head = $i;
        my $text = '';
        my $j = $i;

        while ($j < @$code && $code->[$j] !~ /[{;=]/) {
            $text .= $code->[$j++];
        }

        last if $j >= @$code;

        my ($rest) = $code->[$j] =~ /^([^{;=]*)/;
        my $mark = substr($code->[$j], length $rest, 1);
        $text .= $rest;

        if ($mark ne '{' || $text !~ /\)\s*$/) {
            $i = $j + 1;
            next;
        }

        my ($before, $name) = $text =~ /^(.*?)(\w+)\s*\(/s;

        $say->($j + 1, 'brace', "the brace of $name() on its own line")
            if $code->[$j] !~ /^\{\s*$/;

        my $start = $head;

        if ($before =~ /\w/) {
            $say->($head + 1, 'type', "the type of $name() on its own line");

        } else {
            $start-- if $head > 0 && $code->[$head - 1] =~ /^[A-Za-z_]/;
        }

        my $type = $before . ($start < $head ? $code->[$start] : '');

        $say->($head + 1, 'prefix', "$name() is not static and not named ours")
            if $type !~ /\bstatic\b/ && $name !~ $prefix
               && $name ne 'LLVMFuzzerTestOneInput' && $name ne 'main';

        # what stands before: two blank lines, under a directive one or two

        my $k = $start - 1;
        my $blank = 0;

        for my $comment (0, 1) {
            $blank = 0;

            while ($k >= 0 && $raw->[$k] =~ /^\s*$/) { $blank++; $k--; }

            last if $comment || $blank > 1
                    || $k < 0 || $raw->[$k] !~ m{\*/\s*$};

            while ($k >= 0 && $raw->[$k] !~ m{/\*}) { $k--; }

            $k--;
        }

        $say->($head + 1, 'blank', "$blank blank lines before $name(), not 2")
            if $k >= 0 && $blank != 2
               && !($raw->[$k] =~ /^#/ && $blank == 1);

        # the body

        my $end = $j;
        $end++ while $end < @$code && $code->[$end] !~ /^\}/;

        my $lines = $end - $head + 1;

        $say->($head + 1, 'function',
               "$name() has $lines lines, more than " . MAX_FUNCTION)
            if $lines > MAX_FUNCTION;

        $i = $end + 1;
    }
}


sub selftest {

    my $clean = <<'END';

/*
 * Copyright (C) nginx-gate authors
 */


#include <stddef.h>

#include "core/gate_a.h"


typedef struct {
    int  (*call)(int a);
} gate_a_t;


static int gate_a_one(const char *s, int a);


static const char  *gate_a_url = "http://x/ if( while( assert(";


/*
 * Adds one; if( in a comment is no matter.
 */

int
gate_a(int a)
{
    return gate_a_one(gate_a_url, a);
}


/* adds two */
static int
gate_a_one(const char *s,
    int a)
{
    if (s[0] == '"') {
        return uptime(a);
    }

    for ( ;; ) {
        break;
    }

    return a + 2;
}


#if (GATE_A)

static int
gate_a_two(void)
{
    return 0;
}

#endif
END

    my $f = 'src/core/gate_a.c';
    my $include = '#include <stddef.h>';

    my @cases = (
        # rule, file, what to replace in the clean file, with what
        [ 'columns',  $f, 'adds two', 'x' x 80 ],
        [ 'tab',      $f, 'adds two', "adds\ttwo" ],
        [ 'space',    $f, 'return a + 2;', 'return a + 2; ' ],
        [ 'newline',  $f, "#endif\n", '#endif' ],
        [ 'file',     $f, "adds two */\n", "adds" . "\n" x 900 . "two */\n" ],
        [ 'comment',  $f, 'return a + 2;', 'return a + 2;  // two' ],
        [ 'keyword',  $f, "if (s", "if(s" ],
        [ 'keyword',  $f, 'for (', 'for(' ],
        [ 'keyword',  $f, "for ( ;; )", 'while(1)' ],
        [ 'keyword',  $f, "for ( ;; )", 'switch(a)' ],
        [ 'assert',   $f, 'break;', 'assert(a);' ],
        [ 'brace',    $f, "gate_a(int a)\n{", 'gate_a(int a) {' ],
        [ 'type',     $f, "int\ngate_a(", 'int gate_a(' ],
        [ 'type',     $f, "static int\ngate_a_one(", 'static int gate_a_one(' ],
        [ 'blank',    $f, "}\n\n\n/* adds", "}\n\n/* adds" ],
        [ 'blank',    $f, "}\n\n\n/* adds", "}\n\n\n\n/* adds" ],
        [ 'blank',    $f, "}\n\n\n/* adds two */", "}\n" ],
        [ 'prefix',   $f, "int\ngate_a(", "int\nmy_a(" ],
        [ 'function', $f, "        break;\n", "        break;\n" x 90 ],
        [ 'layer',    $f, '"core/gate_a.h"', '"node/gate_a.h"' ],
        [ 'layer',    $f, '"core/gate_a.h"', '"http/gate_a.h"' ],
        [ 'layer',    $f, '"core/gate_a.h"', '"other/gate_a.h"' ],
        [ 'layer',    $f, '"core/gate_a.h"', '"../core/gate_a.h"' ],
        [ 'layer',    'src/node/gate_a.c', 'core/gate_a.h', 'fleet/gate_a.h' ],
        [ 'layer',    'src/fleet/gate_a.c', 'core/gate_a.h', 'http/gate_a.h' ],
        [ 'core',     $f, $include, '#include <ngx_core.h>' ],
        [ 'core',     $f, $include, '#include "ngx_core.h"' ],
        map { [ 'core', $f, 'uptime(', "$_(" ] }
            qw(time clock_gettime gettimeofday rand getrandom),
    );

    my @passes = (
        [ $f, '', '' ],
        [ 'src/http/gate_a.c', 'core/gate_a.h', 'fleet/gate_a.h' ],
        [ 'src/fleet/gate_a.c', 'core/gate_a.h', 'node/gate_a.h' ],
        [ 'src/node/gate_a.c', 'core/gate_a.h', 'node/gate_a.h' ],
        [ 'src/node/gate_a.c', $include, '#include <ngx_core.h>' ],
        [ 'src/http/gate_a.c', 'uptime(', 'time(' ],
    );

    my $failed = 0;
    my %proved;

    for (@passes) {
        my ($name, $from, $to) = @$_;
        my $text = swap($clean, $from, $to);

        for (check($name, $text)) {
            print "selftest: clean $name with \"$to\": $_->[0]: $_->[2]\n";
            $failed = 1;
        }
    }

    for (@cases) {
        my ($rule, $name, $from, $to) = @$_;
        my %rules = map { $_->[1] => 1 } check($name, swap($clean, $from, $to));

        if (join(' ', sort keys %rules) ne $rule) {
            $to = substr($to, 0, 20);
            print "selftest: \"$to\": expected $rule, found: @{[ %rules ]}\n";
            $failed = 1;
        }

        $proved{$rule}++;
    }

    # no rule without a proof

    open my $fh, '<', $0 or die "$0: $!\n";
    local $/;

    for (<$fh> =~ /\$say->\([^,]+,\s*'(\w+)'/g) {
        next if $proved{$_};
        print "selftest: nothing proves that $_ can fail\n";
        $failed = 1;
    }

    return $failed;
}


sub swap {
    my ($text, $from, $to) = @_;

    return $text if $from eq '';

    my $at = index $text, $from;
    die "selftest: no \"$from\" in the clean file\n" if $at < 0;

    substr($text, $at, length $from) = $to;

    return $text;
}
