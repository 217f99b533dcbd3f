// The programs in Go, line by line those of ../harness/src/programs/measure.rs, and the loads of ../src/loads.rs. The
// comparison builds it and starts it as it starts the others:
//
//	programs NAME COUNT
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var programs = map[string]func(count int64) []float64{
	"skynet":       skynet,
	"ring":         ring,
	"sieve":        sieve,
	"fan_in":       fanIn,
	"mpmc_4x4":     mpmc,
	"yield_10k":    yields,
	"spawn_run":    spawnRun,
	"park_million": parkAndClose,
	"ping_1khz":    ping,
	"ticker_1ms":   ticker,
	"parked":       func(count int64) []float64 { return beside(parked(count)) },
	"timers":       func(count int64) []float64 { return beside(timers(count)) },
	"channels":     func(count int64) []float64 { return beside(channels(count)) },
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: programs NAME COUNT")
	}
	count, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		fail(err)
	}
	program, ok := programs[os.Args[1]]
	if !ok {
		fail("there is no program " + os.Args[1])
	}
	var figures []string
	for _, figure := range program(count) {
		figures = append(figures, fmt.Sprint(figure))
	}
	fmt.Println(strings.Join(figures, " "))
}

func nsEach(took time.Duration, count int64) float64 {
	return float64(took.Nanoseconds()) / float64(count)
}

// cpu is the time that the process has used so far, in user and kernel mode.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func fail(problem any) {
	fmt.Println(problem)
	os.Exit(1)
}
