//! Security contexts: the *restricted* Pod Security Standard as far as an unknown image allows, unless the Agent says
//! otherwise. Whether an image runs as another user than root is not known, so that is left to the Agent.

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, SeccompProfile, SecurityContext,
};

/// Of the Pod: the Agent's, and the runtime's seccomp profile where it names none.
pub fn of_pod(asked: Option<&PodSecurityContext>) -> PodSecurityContext {
    let mut context = asked.cloned().unwrap_or_default();
    context
        .seccomp_profile
        .get_or_insert_with(|| SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        });
    context
}

/// Of the agent container.
pub fn of_agent(asked: Option<&SecurityContext>) -> SecurityContext {
    let mut context = asked.cloned().unwrap_or_default();
    // Kubernetes refuses `false` beside either of these.
    let needs_escalation = context.privileged == Some(true)
        || context
            .capabilities
            .iter()
            .flat_map(|capabilities| capabilities.add.iter().flatten())
            .any(|added| matches!(added.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN"));
    if !needs_escalation {
        context.allow_privilege_escalation.get_or_insert(false);
    }
    let drop = &mut context.capabilities.get_or_insert_default().drop;
    if drop.is_none() && context.privileged != Some(true) {
        *drop = Some(vec!["ALL".to_owned()]);
    }
    context
}

/// Of the system's own containers: restricted, under the agent's user, so that the agent owns what they leave.
pub fn of_system(asked: Option<&SecurityContext>) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        run_as_user: asked.and_then(|asked| asked.run_as_user),
        run_as_group: asked.and_then(|asked| asked.run_as_group),
        run_as_non_root: asked.and_then(|asked| asked.run_as_non_root),
        ..SecurityContext::default()
    }
}
