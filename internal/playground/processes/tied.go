package processes

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// tiedCommand is the hidden first argument that makes this program run another one for as long as its own standard input is open.
const tiedCommand = "tied"

// RunTiedIfAsked runs another program if Start has started this process to do so, and exits with the code of the other program. Otherwise it
// returns at once. Call RunTiedIfAsked first in the main of every program that calls Start.
//
// The other program ends when standard input closes. The end of the process that called Start always closes standard input.
func RunTiedIfAsked() {
	if len(os.Args) > 2 && os.Args[1] == tiedCommand {
		os.Exit(runTied(os.Args[2], os.Args[3:]))
	}
}

func runTied(program string, args []string) (code int) {
	// The other program gets the same signals, so this process must not end by them. This process catches the signals instead of ignoring
	// them: the other program would inherit ignored signals, but does not inherit caught signals.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = cmd.Process.Kill()
	}()
	_ = cmd.Wait() // ProcessState has the outcome
	if status, is := cmd.ProcessState.Sys().(syscall.WaitStatus); is && status.Signaled() {
		signal.Reset(status.Signal())
		_ = syscall.Kill(os.Getpid(), status.Signal()) // this process ends by the same signal
	}
	return cmd.ProcessState.ExitCode()
}
