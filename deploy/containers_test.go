package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"ehi-server/shared/golden"
)

// Compose accepts its files, individually and together, and everything that they mount exists.
func TestComposeFilesAreRight(t *testing.T) {
	for _, files := range [][]string{{"compose.yml"}, {"compose.yml", "compose.fleet.yml"}} {
		options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory("."),
			cli.WithResolvedPaths(true))
		if err != nil {
			t.Fatal(err)
		}
		project, err := options.LoadProject(t.Context())
		if err != nil {
			t.Fatalf("%v: %v", files, err)
		}
		for name, s := range project.Services {
			for _, v := range s.Volumes {
				if _, err := os.Stat(v.Source); v.Type == "bind" && err != nil {
					t.Errorf("%s mounts %s: %v", name, v.Source, err)
				}
			}
			for _, p := range s.Ports {
				if p.HostIP != "127.0.0.1" {
					t.Errorf("%s listens to more than this machine: %+v", name, p)
				}
			}
			ours := s.Image == "ehi-server"
			if ours && (!s.ReadOnly || !slices.Contains(s.CapDrop, "ALL")) {
				t.Errorf("%s is not confined", name)
			}
		}
		server := project.Services["server"]
		if on := server.Environment["EHI_SANDBOX_ON_NETWORK"]; on == nil || *on != "true" {
			t.Error("the sandbox is on the containers' network without being asked to")
		}
		if server.Build == nil {
			t.Fatal("the server is not built")
		}
		_, err = os.Stat(filepath.Join(server.Build.Context, server.Build.Dockerfile))
		if err != nil {
			t.Error(err)
		}
	}
}

// rules.yaml has the alerts in the form of the Prometheus operator.
func TestOperatorsRulesAreTheRules(t *testing.T) {
	var spec map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/rules.yml")), &spec); err != nil {
		t.Fatal(err)
	}
	want, err := yaml.Marshal(map[string]any{
		"apiVersion": "monitoring.coreos.com/v1",
		"kind":       "PrometheusRule",
		"metadata": map[string]any{
			"name":   "ehi",
			"labels": map[string]any{"app.kubernetes.io/part-of": "ehi"},
		},
		"spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	want = append([]byte("# prometheus/rules.yml for the Prometheus operator: go test ./deploy "+
		"-run Operators -update\n"), want...)
	golden.Check(t, "kubernetes/rules.yaml", string(want))
}

// Kustomize builds the manifests, each has only the fields of its kind, and every container is
// confined.
func TestKubernetesManifestsAreRight(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(),
		".")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	var pods []core.PodSpec
	configs := map[string]bool{}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		kind := r.GetKind()
		kinds[kind]++
		if r.GetNamespace() != "ehi" {
			t.Errorf("%s %s is in the namespace %q", kind, r.GetName(), r.GetNamespace())
		}
		switch kind {
		case "StatefulSet":
			var s apps.StatefulSet
			strictly(t, text, &s)
			pods = append(pods, s.Spec.Template.Spec)
			for name, value := range s.Spec.Selector.MatchLabels {
				if s.Spec.Template.Labels[name] != value {
					t.Errorf("%s does not select its own pods", s.Name)
				}
			}
		case "Service":
			strictly(t, text, new(core.Service))
		case "PersistentVolumeClaim":
			strictly(t, text, new(core.PersistentVolumeClaim))
		case "ConfigMap":
			var c core.ConfigMap
			strictly(t, text, &c)
			configs[c.Name] = true
			if c.Data["EHI_BASE_URL"] != "" &&
				(c.Data["EHI_MODE"] != "production" || c.Data["EHI_TRUSTED_PROXIES"] == "") {
				t.Errorf("%s does not run in production mode: %v", c.Name, c.Data)
			}
		case "PodDisruptionBudget":
			strictly(t, text, new(policy.PodDisruptionBudget))
		case "HorizontalPodAutoscaler":
			strictly(t, text, new(autoscaling.HorizontalPodAutoscaler))
		case "NetworkPolicy":
			strictly(t, text, new(networking.NetworkPolicy))
		case "ServiceMonitor":
			strictly(t, text, new(monitoring.ServiceMonitor))
		case "PrometheusRule":
			strictly(t, text, new(monitoring.PrometheusRule))
		default:
			t.Errorf("nobody checks a %s", kind)
		}
	}
	for kind, n := range map[string]int{
		"StatefulSet": 2, "Service": 2, "ConfigMap": 2, "HorizontalPodAutoscaler": 1,
		"NetworkPolicy": 1, "PodDisruptionBudget": 2, "PersistentVolumeClaim": 1,
		"ServiceMonitor": 1, "PrometheusRule": 1,
	} {
		if kinds[kind] != n {
			t.Errorf("%d of %s, want %d", kinds[kind], kind, n)
		}
	}
	for _, p := range pods {
		if p.SecurityContext == nil || p.SecurityContext.RunAsNonRoot == nil ||
			!*p.SecurityContext.RunAsNonRoot {
			t.Error("a pod may run as root")
		}
		for _, c := range p.Containers {
			s := c.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
				s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
				s.Capabilities == nil || len(s.Capabilities.Drop) == 0 {
				t.Errorf("%s is not confined", c.Name)
			}
			if c.LivenessProbe == nil || c.ReadinessProbe == nil ||
				c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s lacks a probe or a limit", c.Name)
			}
			for _, from := range c.EnvFrom {
				if from.ConfigMapRef != nil && !configs[from.ConfigMapRef.Name] {
					t.Errorf("%s reads the ConfigMap %s, which there is not", c.Name,
						from.ConfigMapRef.Name)
				}
			}
		}
	}
}

// strictly decodes a manifest into its kind. A field that the kind does not have is an error.
func strictly(t *testing.T, text []byte, into any) {
	t.Helper()
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Errorf("%v in %s", err, strings.TrimSpace(string(text)))
	}
}
