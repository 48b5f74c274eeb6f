package rehearse

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/towline/towline/internal/emulator"
)

// behaviour reads what new tasks are to do.
func behaviour(how string) (emulator.Behaviour, error) {
	code, exits := strings.CutPrefix(how, "exit=")
	number, err := strconv.Atoi(code)
	switch {
	case how == "run":
		return emulator.Behaviour{}, nil
	case how == "unhealthy":
		return emulator.Behaviour{Health: emulator.Failing}, nil
	case exits && err == nil && number >= 0 && number <= 255:
		return emulator.Behaviour{
			Logs: []string{"starting", "rehearsal: the program ends here with exit code " + code},
			Exit: &emulator.Exit{Code: number},
		}, nil
	}
	return emulator.Behaviour{}, fmt.Errorf("%q is none of run, exit=CODE, unhealthy", how)
}

// readAgainst reads the steps that the stage is set for.
func readAgainst(asked request, out io.Writer) ([]act, error) {
	var err error
	asked.workflow, asked.job = asked.against, ""
	if asked.workflow, _, err = locate(asked.workflow, asked.dir); err != nil {
		return nil, err
	}
	return readWorkflow(asked, out)
}

// setAgainst adds what the steps of the other workflow need. Those that were played
// change nothing of it.
func (t *theatre) setAgainst() error {
	for _, a := range t.against {
		in, err := a.inputs()
		if err != nil {
			return err
		}
		account, region, err := in.where()
		if err != nil {
			return err
		}
		on, err := t.stage(account, region)
		if err != nil {
			return err
		}
		if err = in.set(on, t.dir, account, region); err != nil {
			return err
		}
	}
	return nil
}
