// Reads a JSON list of custom resources on standard input; answers a JSON list of one sentence a
// resource, empty if it fits the schema of its kind.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "keda.sh": "@kubernetes-models/keda",
  "cert-manager.io": "@kubernetes-models/cert-manager",
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
};

async function problem(resource) {
  const [group, version] = resource.apiVersion.split("/");
  const name = PACKAGES[group];
  if (name === undefined) return `no schema is known for ${resource.apiVersion}`;
  const models = await import(`${name}/${group}/${version}/${resource.kind}`).catch(() => null);
  if (models === null) return `${resource.apiVersion} has no kind ${resource.kind}`;
  try {
    new models[resource.kind](resource).validate();
    return "";
  } catch (error) {
    return error.message;
  }
}

const resources = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(await Promise.all(resources.map(problem))));
