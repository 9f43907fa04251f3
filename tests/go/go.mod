module rutli/readlog

go 1.25

require golang.org/x/mod v0.0.0

// The copy that comes with the toolchain, put here by the tests: no module proxy is asked.
replace golang.org/x/mod => ./mod
