package step

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/report"
	"github.com/towline/towline/internal/rollout"
)

// several is a rollout over several services while it goes on. It is safe for
// concurrent use.
type several struct {
	mu sync.Mutex
	// begun and ended count services; told is when that was last told.
	begun, ended int
	told         time.Time
	// first is the service that failed first, or nil.
	first *service
}

// quiet is how often it is told how many services are under way.
const quiet = 30 * time.Second

// events gives the receiver of a service's events: with several, the log tells
// them apart.
func (s *Step) events(svc *service) func(deploy.Event) {
	if !s.settings.Deployment.Several() {
		return s.report.Deploy
	}
	tell := s.report.Among(svc.target.String())
	return func(e deploy.Event) {
		switch e := e.(type) {
		case deploy.Waiting:
			s.tellProgress()
		case deploy.RollingBack:
			if fail := svc.fail; fail != nil {
				fail(errors.New(e.Reason)) // its end is known before it is there
			}
		}
		tell(e)
	}
}

// tellProgress says now and then how far the services are.
func (s *Step) tellProgress() {
	s.several.mu.Lock()
	begun, ended, due := s.several.begun, s.several.ended, time.Since(s.several.told) >= quiet
	if due {
		s.several.told = time.Now()
	}
	s.several.mu.Unlock()
	if due {
		s.report.Say("waiting", fmt.Sprintf("%s under way, %d done, %d to come", plural(begun-ended, "service"), ended, len(s.services)-begun))
	}
}

// deploySeveral goes over the services as the inputs say, and follows each to its
// end.
func (s *Step) deploySeveral(ctx context.Context) error {
	d := s.settings.Deployment
	sizes := rollout.Sizes(d.Waves, len(s.services))
	s.did("the updates of %s were asked for; look at their deployments", plural(len(s.services), "service"))
	s.several.told = time.Now()
	opts := rollout.Options{
		Sizes: sizes, Parallel: d.MaxParallel, Bake: d.WaveBake, Deploy: s.deployOne,
		Check: func(ctx context.Context, n int) error {
			svc := s.services[n]
			err := svc.deployer.Holds(ctx, svc.outcome)
			if err != nil {
				s.failed(svc)
			}
			return err
		},
		Wave: func(wave, _, size int) {
			if len(sizes) > 1 {
				s.report.Say("wave", fmt.Sprintf("%d of %d", wave+1, len(sizes)), plural(size, "service"))
			}
		},
		Baking: func(wave int) {
			s.report.Say("baking", fmt.Sprintf("wave %d", wave+1), fmt.Sprintf("for %d minutes", int(d.WaveBake.Minutes())))
		},
	}
	if d.RollbackOnFailure {
		opts.TakeBack = s.takeBack
	}
	results := rollout.Run(ctx, opts)
	s.report.Services(s.rows())
	return errors.Join(s.outputSeveral(), s.judgeSeveral(ctx, results))
}

// deployOne deploys to one service and, when another one fails, gives that up.
func (s *Step) deployOne(ctx, failed context.Context, n int, fail func(error)) error {
	svc := s.services[n]
	svc.fail = func(err error) {
		s.failed(svc)
		fail(err)
	}
	defer func() { svc.fail = nil }()
	if s.settings.Deployment.RollbackOnFailure {
		stop := context.AfterFunc(failed, func() { svc.deployer.Abandon(s.blame(context.Cause(failed))) })
		defer stop()
	}
	s.count(&s.several.begun)
	begin := time.Now()
	outcome, err := svc.deployer.Deploy(ctx, svc.edition.definitionARN)
	if svc.outcome = outcome; outcome.Status != "" {
		svc.took = max(time.Since(begin), time.Millisecond)
	}
	s.count(&s.several.ended)
	if err != nil && !outcome.Abandoned && ctx.Err() == nil && failed.Err() == nil {
		s.failed(svc)
	}
	return err
}

func (s *Step) count(n *int) {
	s.several.mu.Lock()
	defer s.several.mu.Unlock()
	*n++
}

// failed notes which service failed first.
func (s *Step) failed(svc *service) {
	s.several.mu.Lock()
	defer s.several.mu.Unlock()
	s.several.first = cmp.Or(s.several.first, svc)
}

// blame says on account of whom others are given up.
func (s *Step) blame(cause error) error {
	if first, ok := errors.AsType[*rollout.FailedError](cause); ok {
		return fmt.Errorf("service %s has failed", s.services[first.N].target)
	}
	return cause
}

// takeBack takes back a service that was deployed to.
func (s *Step) takeBack(ctx context.Context, n int, why error) error {
	svc := s.services[n]
	begin := time.Now()
	outcome, err := svc.deployer.Revert(ctx, svc.outcome, s.blame(why).Error())
	svc.outcome, svc.took = outcome, svc.took+time.Since(begin)
	if err != nil {
		svc.outcome.Status, svc.outcome.Reason = deploy.StatusFailed, "not taken back: "+cause(err)
	}
	return err
}

// rows are the services as the table has them.
func (s *Step) rows() []report.Service {
	rows := make([]report.Service, len(s.services))
	for i, svc := range s.services {
		o := svc.outcome
		rows[i] = report.Service{
			Name: svc.target.String(), Status: string(o.Status), DeploymentID: o.DeploymentID, TaskDefinition: lastPart(o.TaskDefinitionARN),
			Reason: o.Reason, ConsoleURL: o.ConsoleURL, Took: svc.took,
		}
		if rows[i].TaskDefinition == "" {
			rows[i].TaskDefinition = lastPart(svc.edition.definitionARN)
		}
	}
	return rows
}

// judgeSeveral gives the error of several services: one for each that failed by
// itself or could not be taken back, or one about what goes on when the step is
// cut short.
func (s *Step) judgeSeveral(ctx context.Context, results []rollout.Result) error {
	if ctx.Err() != nil {
		return s.parted(ctx, results)
	}
	var errs []error
	told := map[string]bool{}
	for n, result := range results {
		svc := s.services[n]
		takenBack := svc.outcome.Abandoned && svc.outcome.Status == deploy.StatusRolledBack
		neverBegun := svc.outcome.Status == "" && s.several.first != nil && svc != s.several.first
		if result.Err == nil || takenBack || neverBegun && errors.Is(result.Err, deploy.ErrAbandoned) || told[result.Err.Error()] {
			continue
		}
		told[result.Err.Error()] = true
		errs = append(errs, s.naming(svc, result.Err))
	}
	return errors.Join(errs...)
}

// naming tells in an error where the service is, if another one has its name.
func (s *Step) naming(svc *service, err error) error {
	same := slices.ContainsFunc(s.services, func(other *service) bool {
		return other != svc && lastPart(other.target.Service) == lastPart(svc.target.Service)
	})
	if known, ok := errors.AsType[*problem.Error](err); ok && same {
		known.Op += " (" + svc.target.String() + ")"
	}
	return err
}

// parted is the error when the step is cut short: it says which deployments go
// on, and how each is stopped.
func (s *Step) parted(ctx context.Context, results []rollout.Result) error {
	goOn, done, notBegun := 0, 0, 0
	var detail []string
	why := context.Cause(ctx)
	for n, result := range results {
		svc := s.services[n]
		switch {
		case result.State == rollout.Deployed || result.State == rollout.TakenBack:
			done++
		case result.State == rollout.NotBegun || svc.outcome.Status == "":
			notBegun++
		default:
			goOn++
		}
		if known, ok := errors.AsType[*problem.Error](result.Err); ok && svc.outcome.Status != "" {
			detail = append(detail, svc.target.String()+": "+strings.TrimSuffix(known.Err.Error(), ": "+why.Error())+". "+known.Fix)
		}
	}
	fix := "Look at their ends, or stop them, as the lines above and the summary say."
	if goOn == 0 {
		fix = "Run the job again: services that run the task definition already are left alone."
	}
	return &problem.Error{
		Op: "deploy to " + plural(len(s.services), "service"), Detail: detail, Fix: fix,
		Err: fmt.Errorf("%s left under way, %d ended before, %d not begun: %w", plural(goOn, "deployment"), done, notBegun, why),
	}
}

// cause is what an error says without what to do.
func cause(err error) string {
	if known, ok := errors.AsType[*problem.Error](err); ok && known.Err != nil {
		return known.Err.Error()
	}
	return err.Error()
}

// outputSeveral sets the outputs about all services.
func (s *Step) outputSeveral() error {
	var ids, arns, codeDeploy, consoles []string
	all := []map[string]string{}
	for _, svc := range s.services {
		o := svc.outcome
		ids, arns = append(ids, o.DeploymentID), append(arns, o.DeploymentARN)
		codeDeploy, consoles = append(codeDeploy, o.CodeDeployID), append(consoles, o.ConsoleURL)
		entry := map[string]string{
			"cluster": lastPart(svc.target.Cluster), "service": lastPart(svc.target.Service), "region": svc.home.session.Config.Region,
			inputs.OutputDeploymentStatus: string(o.Status), inputs.OutputDeploymentReason: o.Reason,
			inputs.OutputDeploymentID: o.DeploymentID, inputs.OutputDeploymentARN: o.DeploymentARN,
			inputs.OutputCodeDeployDeploymentID: o.CodeDeployID, inputs.OutputConsoleURL: o.ConsoleURL,
			inputs.OutputTaskDefinitionARN: svc.edition.definitionARN, inputs.OutputPreviousTaskDefinitionARN: svc.currentARN,
		}
		all = append(all, entry)
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("output %s: %w", inputs.OutputDeployments, err)
	}
	status, reason := s.overall()
	s.report.Fact("Deployment", status)
	return errors.Join(
		s.runner.SetOutput(inputs.OutputDeployments, string(encoded)), // for programs: the table says it to people
		s.output(map[string]string{
			inputs.OutputDeploymentID: lines(ids), inputs.OutputDeploymentARN: lines(arns), inputs.OutputDeploymentStatus: status,
			inputs.OutputDeploymentReason: reason, inputs.OutputCodeDeployDeploymentID: lines(codeDeploy), inputs.OutputConsoleURL: lines(consoles),
		}))
}

// overall is how all ended, in one word: that of the service which failed first,
// else of one that is not over, else succeeded, or unchanged if all are.
func (s *Step) overall() (status, reason string) {
	if first := s.several.first; first != nil {
		return string(cmp.Or(first.outcome.Status, deploy.StatusFailed)), strings.TrimPrefix(first.target.String()+": "+first.outcome.Reason, ": ")
	}
	best := deploy.StatusUnchanged
	for _, svc := range s.services {
		switch o := svc.outcome; o.Status {
		case deploy.StatusUnchanged:
		case deploy.StatusSucceeded:
			best = deploy.StatusSucceeded
		case "":
			return string(deploy.StatusStarted), "not all services were begun"
		default:
			return string(o.Status), svc.target.String() + ": " + o.Reason
		}
	}
	return string(best), ""
}
