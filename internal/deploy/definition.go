package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/towline/towline/internal/problem"
	"github.com/towline/towline/internal/taskdef"
)

// TaskDefinition gives DescribeTaskDefinition's answer for arn (or a family,
// or family:revision), tags included, as the bytes that ECS sent: fields that
// this version of the SDK does not know are still in them.
func (c *Client) TaskDefinition(ctx context.Context, arn string) ([]byte, error) {
	answer, err := c.definition(ctx, arn)
	if err == nil {
		return answer, nil
	}
	if _, refused := errors.AsType[*ecstypes.ClientException](err); refused {
		return nil, &problem.Error{
			Op: "read task definition", Input: "task-definition", Value: arn, Err: err,
			Fix: fmt.Sprintf("Check the family and revision, the account and the region (%s).", c.opts.Config.Region),
		}
	}
	return nil, c.apiProblem("read task definition", "task-definition", arn, err)
}

// LatestTaskDefinition is TaskDefinition for the latest revision of a family. It
// is nil where there is none, and where it may not be read.
func (c *Client) LatestTaskDefinition(ctx context.Context, family string) ([]byte, error) {
	answer, err := c.definition(ctx, family)
	if err == nil {
		return answer, nil
	}
	if _, refused := errors.AsType[*ecstypes.ClientException](err); refused || isDenied(err) {
		return nil, nil
	}
	return nil, c.apiProblem("read task definition", "task-definition", family, err)
}

// definition is TaskDefinition with ECS's own error.
func (c *Client) definition(ctx context.Context, arn string) ([]byte, error) {
	var answer []byte
	_, err := c.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{
		TaskDefinition: aws.String(arn),
		Include:        []ecstypes.TaskDefinitionField{ecstypes.TaskDefinitionFieldTags},
	}, verbatim(nil, &answer))
	return answer, err
}

// Register registers wanted, byte for byte as it renders, and gives the ARN of
// the new revision. When wanted equals current, the revision currentARN,
// nothing is registered and changed is false. Pass an empty currentARN when
// there is no current one.
func (c *Client) Register(ctx context.Context, current, wanted taskdef.Document, currentARN string) (arn string, changed bool, err error) {
	if currentARN != "" && wanted.Equal(current) {
		c.emit(Registered{ARN: currentARN})
		return currentARN, false, nil
	}
	if err = wanted.Check(); err != nil {
		return "", false, err
	}
	request, err := wanted.Request()
	if err != nil {
		return "", false, err
	}
	if arn, err = c.register(ctx, wanted.Family(), request); err != nil {
		return "", false, err
	}
	c.emit(Registered{ARN: arn, Changed: true})
	return arn, true, nil
}

// register sends the request as it is. A retry after an answer that was lost
// may leave one revision too many, which harms nobody.
func (c *Client) register(ctx context.Context, family string, request []byte) (string, error) {
	const tries = 6
	var answer []byte
	for try := 1; ; try++ {
		_, err := c.ecs.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
			// Only what the SDK insists on; the body is request.
			Family:               aws.String(family),
			ContainerDefinitions: []ecstypes.ContainerDefinition{},
		}, verbatim(request, &answer))
		if err == nil {
			break
		}
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return "", &problem.Error{
				Op:  "register task definition " + family,
				Err: fmt.Errorf("%w; it is not known whether it was registered, the service was not updated", context.Cause(ctx)),
				Fix: "Run the job again: a revision that nobody runs harms nobody.",
			}
		}
		if try == tries || ctx.Err() != nil || !isCrowded(err) {
			return "", c.registerProblem(family, err)
		}
		c.pause(ctx, time.Duration(try)*time.Second, 0.2)
	}
	var got struct {
		TaskDefinition struct {
			ARN string `json:"taskDefinitionArn"`
		} `json:"taskDefinition"`
	}
	if err := json.Unmarshal(answer, &got); err != nil || got.TaskDefinition.ARN == "" {
		return "", &problem.Error{
			Op:  "register task definition " + family,
			Err: errors.Join(errors.New("the answer of ECS names no task definition ARN"), err),
			Fix: "Check that the endpoint is ECS's.",
		}
	}
	return got.TaskDefinition.ARN, nil
}

// isCrowded says whether ECS refused because others register revisions of the
// same family at this moment. It has no code of its own for that, and the SDK
// does not try again.
func isCrowded(err error) bool {
	refused, ok := errors.AsType[*ecstypes.ClientException](err)
	return ok && mentions(refused.ErrorMessage(), "too many concurrent attempts")
}

// registerProblem explains why a task definition was refused.
func (c *Client) registerProblem(family string, err error) error {
	var said smithy.APIError
	if errors.As(err, &said) && !isDenied(err) && said.ErrorFault() != smithy.FaultServer {
		return &problem.Error{
			Op: "register task definition " + family, Err: err,
			Fix: "Correct what ECS refuses in the task definition.",
		}
	}
	return c.apiProblem("register task definition "+family, "", "", err)
}

// verbatim makes a call send body (where it is not nil) instead of what the
// typed input renders to, and keep the successful answer as it came, in
// answer. Endpoint, signature, retries and errors are the typed client's.
func verbatim(body []byte, answer *[]byte) func(*ecs.Options) {
	return func(o *ecs.Options) {
		o.Protocol = &verbatimProtocol{ClientProtocol: o.Protocol, body: body, answer: answer}
	}
}

type verbatimProtocol struct {
	smithyhttp.ClientProtocol
	body   []byte
	answer *[]byte
}

// SerializeRequest renders the typed input and then exchanges the body.
func (p *verbatimProtocol) SerializeRequest(ctx context.Context, op *smithy.OperationSchema, in smithy.Serializable, req *smithyhttp.Request) error {
	if err := p.ClientProtocol.SerializeRequest(ctx, op, in, req); err != nil || p.body == nil {
		return err
	}
	exchanged, err := req.SetStream(bytes.NewReader(p.body))
	if err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	*req = *exchanged
	return nil
}

// DeserializeResponse keeps a successful answer's bytes; errors are the
// wrapped protocol's.
func (p *verbatimProtocol) DeserializeResponse(
	ctx context.Context, op *smithy.OperationSchema, types *smithy.TypeRegistry, resp *smithyhttp.Response, out smithy.Deserializable,
) error {
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return p.ClientProtocol.DeserializeResponse(ctx, op, types, resp, out)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	*p.answer = body
	return nil
}
