//! What `deploy` ships, judged by the tools that will read it: kustomize builds the manifests for Kubernetes,
//! systemd reads the unit, and caliprobe itself the arguments that both start it with.

#[cfg(test)]
mod kustomize;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod privileges;
#[cfg(test)]
mod unit;
