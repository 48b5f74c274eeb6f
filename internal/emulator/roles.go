package emulator

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
	// iamRegion is what requests to IAM, which has no regions, are signed for.
	iamRegion = "us-east-1"
)

// TrustTasks is the trust policy of a role that ECS's tasks take on.
func TrustTasks() string {
	return `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}`
}

// signedFor says whether a request is signed for a service.
func signedFor(r *http.Request, service string) bool {
	header := r.Header.Get("Authorization")
	if !strings.HasPrefix(header, "AWS4-HMAC-SHA256 ") {
		return false
	}
	sig, err := parseAuthorization(header)
	return err == nil && sig.service == service
}

// serveIAM answers IAM, which speaks AWS's query protocol.
func (c *Cloud) serveIAM(w http.ResponseWriter, r *http.Request) {
	c.exchangeQuery(w, r, "iam", "", func(w http.ResponseWriter, q *request, form url.Values) (err error) {
		var out any
		switch q.action {
		case "GetRole":
			out, err = c.getRole(q.who, form)
		case "SimulatePrincipalPolicy":
			out, err = c.simulate(q.who, form)
		default:
			return refuse("InvalidAction", "Could not find operation %s for version 2010-05-08", q.action)
		}
		if err != nil {
			return err
		}
		return writeQueryResult(w, iamNamespace, q.action, out)
	})
}

// mayIAM checks the identity's policy, and refuses in IAM's words.
func mayIAM(who *principal, action, resource string) error {
	if who.allow(action, resource) == nil {
		return nil
	}
	denied := deniedOn(who, action, resource, http.StatusForbidden)
	denied.Code = "AccessDenied"
	return denied
}

// roleNamed finds a role by its name without the path.
func (c *Cloud) roleNamed(name string) *role {
	for _, r := range c.roles {
		if lastSegment(r.Name) == name {
			return r
		}
	}
	return nil
}

func (c *Cloud) getRole(who *principal, form url.Values) (any, error) {
	name := form.Get("RoleName")
	r := c.roleNamed(name)
	resource := c.arn("iam", "role/"+name)
	if r != nil {
		resource = r.arn
	}
	if err := mayIAM(who, "iam:GetRole", resource); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, &Error{Code: "NoSuchEntity", Message: fmt.Sprintf("The role with name %s cannot be found.", name), Status: http.StatusNotFound}
	}
	path, _, _ := strings.Cut("/"+r.Name, lastSegment(r.Name))
	type described struct {
		Path, RoleName string
		RoleID         string `xml:"RoleId"`
		Arn            string
		CreateDate     string
		Trust          string `xml:"AssumeRolePolicyDocument"`
		MaxSession     int    `xml:"MaxSessionDuration"`
	}
	return struct{ Role described }{described{
		Path: path, RoleName: lastSegment(r.Name), RoleID: r.id, Arn: r.arn, CreateDate: "2026-01-01T00:00:00Z",
		Trust: url.QueryEscape(r.TrustPolicy), MaxSession: int(r.MaxSession.Seconds()),
	}}, nil
}

// simulated is what a simulation says of an action: as a whole, and for each
// resource.
type simulated struct {
	Action   string     `xml:"EvalActionName"`
	Resource string     `xml:"EvalResourceName"`
	Decision string     `xml:"EvalDecision"`
	Each     []resolved `xml:"ResourceSpecificResults>member"`
}

type resolved struct {
	Resource string `xml:"EvalResourceName"`
	Decision string `xml:"EvalResourceDecision"`
}

// simulate says what a role's policies would answer.
func (c *Cloud) simulate(who *principal, form url.Values) (any, error) {
	source := form.Get("PolicySourceArn")
	if err := mayIAM(who, "iam:SimulatePrincipalPolicy", source); err != nil {
		return nil, err
	}
	of, exists := c.roles[source]
	if !exists {
		return nil, &Error{Code: "NoSuchEntity", Message: fmt.Sprintf("The role with name %s cannot be found.", lastSegment(source)), Status: http.StatusNotFound}
	}
	var keys []string
	for n := 1; form.Has(fmt.Sprintf("ContextEntries.member.%d.ContextKeyName", n)); n++ {
		entry := fmt.Sprintf("ContextEntries.member.%d.", n)
		keys = append(keys, form.Get(entry+"ContextKeyName"), form.Get(entry+"ContextKeyValues.member.1"))
	}
	subject := &principal{arn: source, policy: of.Policy, identity: of.identity}
	var rows []simulated
	for _, action := range members(form, "ActionNames") {
		row := simulated{Action: action, Resource: "*", Decision: "allowed"}
		for _, resource := range members(form, "ResourceArns") {
			each := resolved{Resource: resource, Decision: "allowed"}
			if subject.allow(action, resource, keys...) != nil {
				each.Decision, row.Decision = "implicitDeny", "implicitDeny"
			}
			row.Each = append(row.Each, each)
		}
		rows = append(rows, row)
	}
	return struct {
		IsTruncated bool
		Rows        []simulated `xml:"EvaluationResults>member"`
	}{false, rows}, nil
}

// members reads a list of the query protocol: NAME.member.1, NAME.member.2.
func members(form url.Values, name string) []string {
	var list []string
	for n := 1; form.Has(fmt.Sprintf("%s.member.%d", name, n)); n++ {
		list = append(list, form.Get(fmt.Sprintf("%s.member.%d", name, n)))
	}
	return list
}

// writeQueryResult answers <ActionResponse><ActionResult>out.
func writeQueryResult(w http.ResponseWriter, namespace, action string, out any) error {
	var result strings.Builder
	if err := xml.NewEncoder(&result).EncodeElement(out, xml.StartElement{Name: xml.Name{Local: action + "Result"}}); err != nil {
		return err
	}
	body := fmt.Sprintf(`<%[1]sResponse xmlns="%[2]s">%[3]s<ResponseMetadata><RequestId>%[4]s</RequestId></ResponseMetadata></%[1]sResponse>`,
		action, namespace, result.String(), w.Header().Get("X-Amzn-Requestid"))
	w.Header().Set("Content-Type", "text/xml")
	return write(w, http.StatusOK, []byte(body))
}
