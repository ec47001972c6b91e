#!/usr/bin/perl

# The suite of t/71 against a Redis that does not push.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

BEGIN { $ENV{TEST_REDIS} = 'poll' }

do "$FindBin::Bin/71-fleet-switch.t" or die $@ || $!;
