package emulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Surroundings are where the step runs, as far as they give it credentials: a
// container of ECS or a pod of EKS, at 169.254.170.2 and .23, or an EC2
// instance, at 169.254.169.254.
type Surroundings struct {
	// Role is the ARN of the role that the credentials are of.
	Role string
	// Instance says that it is an instance, not a container.
	Instance bool
	// Token is what a container has to present, as EKS pod identity wants it;
	// empty: nothing.
	Token string
	// Life is how long the credentials last. Default: six hours.
	Life time.Duration
}

// Surround sets where the step runs. Without it, it is nowhere in AWS.
func (c *Cloud) Surround(s Surroundings) {
	if s.Life == 0 {
		s.Life = 6 * time.Hour
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.around = s
}

const (
	instanceHost  = "169.254.169.254"
	instanceToken = "AQAEAG1ldGFkYXRhLXRva2Vu" //nolint:gosec // it is good for nothing else
)

// serveSurroundings answers the link-local services of containers and instances.
func (c *Cloud) serveSurroundings(w http.ResponseWriter, r *http.Request) {
	call := &Call{Service: "metadata", Action: r.Method + " credentials", Time: time.Now()}
	c.exchange(w, r, call, writePlainError, func(w http.ResponseWriter, f *Fault) error {
		if err := f.plainRefusal(); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		role, exists := c.roles[c.around.Role]
		if !exists || c.around.Instance != strings.HasPrefix(r.Host, instanceHost) {
			return &Error{Code: "NotFound", Message: "Not Found", Status: http.StatusNotFound}
		}
		const list = "/latest/meta-data/iam/security-credentials/"
		switch {
		case !c.around.Instance:
			if c.around.Token != "" && r.Header.Get("Authorization") != c.around.Token {
				return &Error{Code: "Unauthorized", Message: "Provided token is not valid", Status: http.StatusUnauthorized}
			}
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			return write(w, http.StatusOK, []byte(instanceToken))
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != instanceToken:
			return &Error{Code: "Unauthorized", Message: "Unauthorized", Status: http.StatusUnauthorized}
		case r.URL.Path == list:
			return write(w, http.StatusOK, []byte(role.Name))
		case r.URL.Path != list+role.Name:
			return &Error{Code: "NotFound", Message: "Not Found", Status: http.StatusNotFound}
		}
		p := c.session(role, &wish{name: "i-0123456789abcdef0", life: c.around.Life})
		body, err := json.Marshal(map[string]string{
			"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": c.now().UTC().Format(time.RFC3339), "RoleArn": role.arn,
			"AccessKeyId": p.accessKey, "SecretAccessKey": p.secret, "Token": p.token, "Expiration": p.expires.UTC().Format(time.RFC3339),
		})
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return write(w, http.StatusOK, body)
	})
}
