package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	cdsdk "github.com/aws/aws-sdk-go-v2/service/codedeploy"
	cdtypes "github.com/aws/aws-sdk-go-v2/service/codedeploy/types"

	"github.com/towline/towline/internal/problem"
)

// mostDescription is how many characters of a description CodeDeploy keeps.
const mostDescription = 512

// appSpec gives the deployment's AppSpec, and where it is from.
func (b *blueGreen) appSpec(ctx context.Context) (content []byte, from string, err error) {
	const op = "write the AppSpec"
	if given := b.c.opts.CodeDeploy.AppSpec; len(given) > 0 {
		content, err = withTaskDefinition(given, b.d.taskDefinition)
		if err != nil {
			return nil, "", &problem.Error{Op: op, Input: "codedeploy-appspec", Err: err, Fix: "Write one resource of Type AWS::ECS::Service with Properties.TaskDefinition."}
		}
		return content, "AppSpec " + firstOf(b.c.opts.CodeDeploy.AppSpecName, "as given"), nil
	}
	if last := b.group.LastSuccessfulDeployment; last != nil {
		id := aws.ToString(last.DeploymentId)
		if info, readErr := b.c.codeDeployment(ctx, id); readErr == nil {
			if content, err = withTaskDefinition([]byte(revisionText(info.Revision)), b.d.taskDefinition); err == nil {
				return content, "the AppSpec of " + id, nil
			}
		}
	}
	content, err = appSpecOf(b.service, b.d.taskDefinition)
	if err != nil {
		return nil, "", &problem.Error{Op: op, Input: "service", Value: b.c.opts.Service, Err: err, Fix: "Give an AppSpec in the input codedeploy-appspec."}
	}
	return content, "an AppSpec made from the service", nil
}

func revisionText(r *cdtypes.RevisionLocation) string {
	switch {
	case r == nil:
		return ""
	case r.AppSpecContent != nil:
		return aws.ToString(r.AppSpecContent.Content)
	default:
		return ""
	}
}

// start creates the deployment, or joins one of the same AppSpec that is under
// way.
func (b *blueGreen) start(ctx context.Context) error {
	content, from, err := b.appSpec(ctx)
	if err != nil {
		return err
	}
	o := b.c.opts.CodeDeploy
	in := &cdsdk.CreateDeploymentInput{
		ApplicationName: b.group.ApplicationName, DeploymentGroupName: b.group.DeploymentGroupName,
		Revision: &cdtypes.RevisionLocation{
			RevisionType:   cdtypes.RevisionLocationTypeAppSpecContent,
			AppSpecContent: &cdtypes.AppSpecContent{Content: aws.String(string(content)), Sha256: aws.String(digest(content))},
		},
		AutoRollbackConfiguration: b.autoRollback(),
	}
	if o.Description != "" {
		in.Description = aws.String(shorten(o.Description, mostDescription))
	}
	if o.Config != "" {
		in.DeploymentConfigName = aws.String(o.Config)
	}
	b.d.watched, b.d.since = time.Now(), time.Now()
	if err := b.create(ctx, in); err != nil {
		return err
	}
	b.c.emit(Started{
		DeploymentID: b.id, TaskDefinitionARN: b.d.taskDefinition, PreviousARN: b.d.previous, ConsoleURL: b.consoleURL(), Joined: b.d.joined,
		Detail: fmt.Sprintf("CodeDeploy group %s/%s, %s", aws.ToString(b.group.ApplicationName), aws.ToString(b.group.DeploymentGroupName), from),
	})
	return nil
}

// autoRollback adds rollbacks of failures to what the group does by itself,
// where a rollback is wanted; nil leaves the group's settings as they are.
func (b *blueGreen) autoRollback() *cdtypes.AutoRollbackConfiguration {
	if own := b.group.AutoRollbackConfiguration; own != nil && own.Enabled {
		b.rollbackOn = slices.Clone(own.Events)
	}
	if !b.c.opts.RollbackOnFailure || slices.Contains(b.rollbackOn, cdtypes.AutoRollbackEventDeploymentFailure) {
		return nil
	}
	b.rollbackOn = append(b.rollbackOn, cdtypes.AutoRollbackEventDeploymentFailure)
	return &cdtypes.AutoRollbackConfiguration{Enabled: true, Events: b.rollbackOn}
}

// create calls CreateDeployment, which has no token of its own: after an answer
// that was lost, the deployment is looked for before it is asked for again.
func (b *blueGreen) create(ctx context.Context, in *cdsdk.CreateDeploymentInput) error {
	const tries = 4
	op := "deploy to service " + b.c.serviceName()
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return &problem.Error{Op: op, Err: context.Cause(ctx), Fix: "No deployment was created: run the job again."}
		}
		out, err := b.c.codedeploy.CreateDeployment(ctx, in, func(o *cdsdk.Options) {
			o.Retryer = newRetryer(b.c.opts.Attempts, isThrottled)
		})
		if err == nil {
			b.id = aws.ToString(out.DeploymentId)
			return nil
		}
		if busy, ok := errors.AsType[*cdtypes.DeploymentLimitExceededException](err); ok {
			return b.busy(ctx, busy, in)
		}
		if ctx.Err() == nil && !isPassing(err) {
			return b.createProblem(op, err)
		}
		last := ctx
		if ctx.Err() == nil {
			b.c.pause(ctx, 2*time.Second, 0.2) // a request whose answer was lost may still be worked on
		} else {
			var cancel context.CancelFunc
			// For two questions, one after the other.
			last, cancel = context.WithTimeoutCause(context.WithoutCancel(ctx), 2*parting, errors.New("no time left to ask CodeDeploy"))
			defer cancel()
		}
		id, asked := b.underWay(last, in)
		switch {
		case id != "":
			b.id = id
			return nil
		case asked != nil || ctx.Err() != nil:
			b.d.uncertain = true
			if ctx.Err() != nil {
				err, asked = context.Cause(ctx), nil // not the SDK's words for the same
			}
			return &problem.Error{
				Op: op, Err: fmt.Errorf("it is not known whether the deployment of %s has begun: %w", b.d.taskDefinition, errors.Join(err, asked)),
				Fix: fmt.Sprintf("Look at the group's deployments: aws deploy list-deployments%s --application-name %s --deployment-group-name %s",
					b.c.regionFlag(), aws.ToString(in.ApplicationName), aws.ToString(in.DeploymentGroupName)),
			}
		case try == tries:
			return b.c.apiProblem(op, "", "", err)
		}
	}
}

// underWay finds a deployment of the same AppSpec that is not over.
func (b *blueGreen) underWay(ctx context.Context, in *cdsdk.CreateDeploymentInput) (string, error) {
	out, err := b.c.codedeploy.ListDeployments(ctx, &cdsdk.ListDeploymentsInput{
		ApplicationName: in.ApplicationName, DeploymentGroupName: in.DeploymentGroupName,
		IncludeOnlyStatuses: []cdtypes.DeploymentStatus{
			cdtypes.DeploymentStatusCreated, cdtypes.DeploymentStatusQueued, cdtypes.DeploymentStatusInProgress,
			cdtypes.DeploymentStatusBaking, cdtypes.DeploymentStatusReady,
		},
	})
	if err != nil {
		return "", err
	}
	for _, id := range out.Deployments {
		info, err := b.c.codeDeployment(ctx, id)
		if err != nil {
			return "", err
		}
		if sameRevision(info.Revision, in.Revision) {
			return id, nil
		}
	}
	return "", nil
}

func sameRevision(a, b *cdtypes.RevisionLocation) bool {
	if a == nil || a.AppSpecContent == nil {
		return false
	}
	if sum := aws.ToString(a.AppSpecContent.Sha256); sum != "" {
		return sum == aws.ToString(b.AppSpecContent.Sha256)
	}
	return aws.ToString(a.AppSpecContent.Content) == aws.ToString(b.AppSpecContent.Content)
}

// busy is for a group that has a deployment under way: one of the same AppSpec
// is joined, any other is named.
func (b *blueGreen) busy(ctx context.Context, refusal *cdtypes.DeploymentLimitExceededException, in *cdsdk.CreateDeploymentInput) error {
	e := &problem.Error{
		Op: "deploy to service " + b.c.serviceName(), Err: refusal,
		Fix: "Wait until the group's running deployment is over, and let only one deployment at a time run for the service: give the job a concurrency group.",
	}
	id := regexp.MustCompile(`\bd-[A-Z0-9]{6,}\b`).FindString(refusal.ErrorMessage())
	info, err := b.c.codeDeployment(ctx, id)
	if err != nil {
		return e
	}
	if sameRevision(info.Revision, in.Revision) {
		b.id, b.d.joined = id, true
		b.d.since = aws.ToTime(info.CreateTime)
		return nil
	}
	what := fmt.Sprintf("deployment %s, created %s by %s, is under way", id, aws.ToTime(info.CreateTime).UTC().Format("2006-01-02 15:04 MST"), firstOf(string(info.Creator), "somebody"))
	stop := fmt.Sprintf("aws deploy stop-deployment%s --deployment-id %s --auto-rollback-enabled", b.c.regionFlag(), id)
	running := &blueGreen{follower: newFollower(b.c, &deployment{}), id: id}
	if target, err := running.target(ctx); err == nil && target != nil && moved(target.LifecycleEvents) {
		what += "; its traffic has moved, and it waits to end its old tasks"
		stop = fmt.Sprintf("aws deploy continue-deployment%s --deployment-id %s --deployment-wait-type TERMINATION_WAIT", b.c.regionFlag(), id)
		e.Fix = "End that wait (" + stop + "), shorten the group's termination wait, or let the job before wait for it (input codedeploy-wait-for: succeeded)."
	} else {
		e.Fix = "Wait until it is over, or stop it: " + stop + ". " + "Give the job a concurrency group, so that only one deployment at a time runs for the service."
	}
	e.Err = fmt.Errorf("%s: %w", what, refusal)
	return e
}

func (b *blueGreen) createProblem(op string, err error) error {
	if isDenied(err) {
		return b.c.apiProblem(op, "", "", err)
	}
	e := &problem.Error{Op: op, Err: err, Fix: "Correct what CodeDeploy refuses in the AppSpec, the deployment group or the deployment configuration."}
	var (
		config  *cdtypes.DeploymentConfigDoesNotExistException
		invalid *cdtypes.InvalidDeploymentConfigNameException
	)
	if errors.As(err, &config) || errors.As(err, &invalid) {
		e.Input, e.Value = "codedeploy-deployment-config", b.c.opts.CodeDeploy.Config
		e.Fix = "Name a deployment configuration for ECS, such as CodeDeployDefault.ECSAllAtOnce, CodeDeployDefault.ECSCanary10Percent5Minutes or CodeDeployDefault.ECSLinear10PercentEvery1Minutes."
	}
	return e
}

// shorten keeps at most n characters.
func shorten(text string, n int) string {
	letters := []rune(text)
	if len(letters) <= n {
		return text
	}
	return string(letters[:n-1]) + "…"
}
