// Package permissions is the command `towline policy`: it prints what AWS has to
// allow for the inputs of a workflow's step. It contacts nobody.
package permissions

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/policy"
	"github.com/towline/towline/internal/problem"
)

// Options says what to print policies for.
type Options struct {
	// Args are the arguments after "policy".
	Args []string
	// Getenv reads the environment: INPUT_ variables where no workflow is named.
	Getenv func(string) string
	// Stdout receives the policies, and what is wrong.
	Stdout io.Writer
}

const usage = `Usage: towline policy [--workflow FILE] [--format json|terraform] [--required]

Prints the smallest policies for the role of a Towline step: who may assume it,
what it may do, and the policies of other accounts' repositories. Nothing is
contacted. Without --workflow the inputs are read from INPUT_ variables.

  --workflow FILE     take the inputs of the Towline step in this workflow file
  --format FORMAT     json (the default) or terraform
  --required          leave out what Towline can do without
  --account ID        the AWS account, where no input shows it
  --repository NAME   OWNER/NAME on GitHub; default: GITHUB_REPOSITORY
  --environment NAME  the environment of the job
  --branch NAME       the branch that may deploy; * stands for anything
  --tag NAME          the tags that may deploy; * stands for anything
`

// request is what the flags ask for.
type request struct {
	workflow, format, account, repository, environment, branch, tag string
	required                                                        bool
}

// Run prints the policies and gives the exit code: 1 where the inputs are wrong,
// 2 for a mistake in Args.
func Run(opts Options) int {
	var r request
	flags := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags.SetOutput(opts.Stdout)
	flags.Usage = func() { _, _ = io.WriteString(opts.Stdout, usage) }
	flags.StringVar(&r.workflow, "workflow", "", "")
	flags.StringVar(&r.format, "format", "json", "")
	flags.BoolVar(&r.required, "required", false, "")
	flags.StringVar(&r.account, "account", "", "")
	flags.StringVar(&r.repository, "repository", "", "")
	flags.StringVar(&r.environment, "environment", "", "")
	flags.StringVar(&r.branch, "branch", "", "")
	flags.StringVar(&r.tag, "tag", "", "")
	if err := flags.Parse(opts.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 || r.format != "json" && r.format != "terraform" {
		flags.Usage()
		return 2
	}
	text, err := r.answer(opts.Getenv)
	if err != nil {
		for _, p := range problem.All("policy", err) {
			_, _ = fmt.Fprintf(opts.Stdout, "error: %v\n", p)
		}
		return 1
	}
	_, _ = io.WriteString(opts.Stdout, text)
	return 0
}

// answer is what is printed.
func (r request) answer(getenv func(string) string) (string, error) {
	job := job{get: func(name string) string { return getenv("INPUT_" + strings.ToUpper(name)) }}
	job.source.Repository = cmp.Or(r.repository, getenv("GITHUB_REPOSITORY"))
	job.source.OwnerID, job.source.RepositoryID = getenv("GITHUB_REPOSITORY_OWNER_ID"), getenv("GITHUB_REPOSITORY_ID")
	if r.workflow != "" {
		if err := job.read(r.workflow); err != nil {
			return "", err
		}
	}
	if r.environment != "" {
		job.source.Environments = []string{r.environment}
	}
	if r.branch != "" || r.tag != "" {
		job.source.PullRequests, job.source.Branches, job.source.Tags = false, nil, nil
	}
	if r.branch != "" {
		job.source.Branches = []string{r.branch}
	}
	if r.tag != "" {
		job.source.Tags = []string{r.tag}
	}
	// What only a job has, and no policy depends on.
	settings, err := inputs.Parse(job.get, func(name string) string {
		return cmp.Or(getenv(name), map[string]string{"GITHUB_SHA": strings.Repeat("0", 40), "GITHUB_REPOSITORY": job.source.Repository}[name])
	})
	if err != nil {
		return "", err
	}
	facts := policy.Facts{Account: r.account, Source: job.source}
	if file := settings.Task.TaskDefinition; file != "" {
		// A file that cannot be read leaves placeholders.
		if data, err := os.ReadFile(file); err == nil { //nolint:gosec // the user names the file
			facts.Task, _ = policy.TaskOf(data)
		}
	}
	return r.print(policy.For(settings, facts)), nil
}

// print writes a plan, for people and for what they copy it to.
func (r request) print(plan policy.Plan) string {
	if len(plan.Roles) == 0 {
		return "# Nothing of AWS is used: no policy is needed.\n"
	}
	if r.required {
		for i := range plan.Roles {
			plan.Roles[i].Permissions = policy.Required(plan.Roles[i].Permissions)
		}
		for i := range plan.Repositories {
			plan.Repositories[i].Policy = policy.Required(plan.Repositories[i].Policy)
		}
	}
	if r.format == "terraform" {
		return plan.Placeholders() + plan.Terraform()
	}
	return plan.Placeholders() + plan.Text()
}
