package step

import (
	"context"

	"github.com/towline/towline/internal/policy"
)

// planPolicies prints the smallest policies for what a dry run has found, to be
// copied. Who may assume the role is left out: the job has just done it.
func (s *Step) planPolicies(context.Context) error {
	facts, err := s.facts()
	if err != nil {
		return err
	}
	plan := policy.For(s.settings, facts).WithoutTrust()
	s.report.Text(plan.Placeholders() + plan.Text())
	return nil
}

// facts are what pre-flight knows besides the inputs.
func (s *Step) facts() (policy.Facts, error) {
	facts := policy.Facts{Account: s.session.Account}
	facts.Source.Repository = s.opts.Getenv("GITHUB_REPOSITORY")
	for _, stage := range s.stages {
		facts.Bases = append(facts.Bases, stage.Base)
	}
	for _, e := range s.editions {
		task, err := policy.TaskOf(e.base.JSON())
		if err != nil {
			return facts, err
		}
		facts.Task = facts.Task.And(task)
	}
	for _, svc := range s.services {
		if svc.found != nil && svc.found.CodeDeploy != nil {
			group := policy.Group(*svc.found.CodeDeploy)
			facts.CodeDeploy = &group
			break
		}
	}
	return facts, nil
}
