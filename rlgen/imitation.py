"""Learning from an expert: the reward models to choose from, and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rlgen.data.demonstrations import Demonstrations
from rlgen.data.replay import ReplayPool
from rlgen.envs.codes import CodedEnv, Codes
from rlgen.errors import DemonstrationError, UsageError
from rlgen.functional.adversarial import reward_log_d, reward_logit, reward_softplus
from rlgen.nn.discriminator import Discriminator, FeatureMatching, ShapedDiscriminator
from rlgen.nn.policy import Policy
from rlgen.optim.ppo import PPOConfig
from rlgen.optim.svg import SVGConfig
from rlgen.optim.trpo import TRPOConfig
from rlgen.presets import Learner, LearnerSettings, OffPolicyLearner
from rlgen.ranges import Checked, Count, NotNegative, Positive, Share, ShareBelowOne
from rlgen.rewards.apprenticeship import FEM, GTAL
from rlgen.rewards.combine import HiddenCode, WeightedSum
from rlgen.rewards.endings import TerminalStates, TerminationReward, ending_weight
from rlgen.rewards.gail import GAIL, ConstantDiscriminator, GAILConfig
from rlgen.rewards.infogail import CodePosterior, PosteriorConfig
from rlgen.settings import ADDED
from rlgen.types import RewardModel, Transitions


@dataclass(frozen=True)
class Expert(Checked):
    """What a reward model learns from.

    Attributes:
        transitions: pairs `[P]`, on the policy's device.
        termination_rate: terminations per step of the episodes that they are from.
        terminations: the pairs `[K]` that terminated these (default: none are known).
        survives: some of those episodes reach their time limit.
    """

    transitions: Transitions
    termination_rate: Share = 0.0
    terminations: Transitions | None = None
    survives: bool = False


REWARDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "softplus": reward_softplus,
    "log-d": reward_log_d,
    "logit": reward_logit,
    "feature-matching": reward_logit,
}
"""Rewards from a discriminator's scores by name, see `rlgen.functional.adversarial`; `softplus` is -log(1-D).

The scores are logits, but for `feature-matching`, see `rlgen.nn.discriminator.FeatureMatching`.
"""
REFERENCE = 256
"""The most rows of a reference batch for virtual batch normalisation."""


@dataclass(frozen=True)
class CodeConfig(Codes):
    """The codes of a mixture's modes, none by default, and how they are learned.

    Attributes:
        code_weight: of the reward for telling the code, beside the imitator's.
        posterior: how the code's posterior learns.
    """

    code_weight: NotNegative = 0.3
    posterior: PosteriorConfig = field(default_factory=PosteriorConfig)


@dataclass(frozen=True)
class Imitation(LearnerSettings):
    """A learner beside what it imitates by.

    Attributes:
        code: the codes that a policy imitates several experts by.
        gail: how a discriminator learns.
        net_arch: its hidden layers.
        spectral_norm: see `rlgen.nn.discriminator.Discriminator`.
        dropout: likewise.
        symlog: likewise.
        virtual_batch_norm: normalise its hidden layers by up to 256 of the expert's pairs, evenly spaced.
        minibatch_group: number of consecutive pairs of an environment, or of the demonstrations, of which it also sees
            how alike they are (minibatch discrimination). 1 is none.
        information_limit: nats that it may know of a pair on average (VAIL); None is no limit.
        expert_weight: how many observations the expert's pairs count as in the policy's statistics, before any of its
            own; it makes the first normalisation the expert's.
        state_only: GAIL's discriminator sees a state and its successor in place of state and action.
        reward: computed from the discriminator's output, one of `REWARDS`; AIRL's is f.
        absorbing_states: reward the end of an episode by `rlgen.rewards.endings.TerminationReward`.
        max_survival_reward: the most that it gives a step for living on where the expert hardly ever terminates, while
            the discriminator tells the policy from the expert; off-policy, always.

    Raises:
        UsageError: a number outside its range, no such reward, absorbing states without centred rewards, or groups of
            pairs without rollouts that they divide.
    """

    # First, so that names which both have are the discriminator's.
    code: CodeConfig = field(default=CodeConfig(), kw_only=True)
    gail: GAILConfig
    net_arch: tuple[Count, ...] = (100, 100)
    spectral_norm: bool = False
    dropout: ShareBelowOne = 0.0
    symlog: bool = True
    virtual_batch_norm: bool = field(default=False, kw_only=True, metadata=ADDED)
    minibatch_group: Count = field(default=1, kw_only=True, metadata=ADDED)
    information_limit: Positive | None = field(default=None, kw_only=True, metadata=ADDED)
    expert_weight: Positive = 2000.0
    state_only: bool = False
    reward: str = "logit"
    absorbing_states: bool = True
    max_survival_reward: Positive = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward not in REWARDS:
            raise UsageError(f"reward must be one of {', '.join(REWARDS)}; got {self.reward}")
        if self.absorbing_states and not self.learner.centre_rewards:
            raise UsageError("absorbing_states needs a learner with centre_rewards")
        if self.minibatch_group > 1:
            if isinstance(self.learner, OffPolicyLearner):
                raise UsageError("minibatch_group needs algo trpo or ppo: off-policy, pairs are drawn one by one")
            if self.learner.n_steps % self.minibatch_group:
                raise UsageError(
                    f"minibatch_group must divide n_steps, {self.learner.n_steps}; got {self.minibatch_group}"
                )

    def expert(self, envs: gym.vector.VectorEnv, policy: Policy, demonstrations: Demonstrations) -> Expert:
        """The expert's pairs on the policy's device, whose statistics start with them.

        Args:
            envs: what will be acted in.
            policy: fresh.
            demonstrations: the expert's pairs.

        Raises:
            DemonstrationError: the pairs were recorded in other spaces than those of `envs`.
        """
        device = policy.normalizer.mean.device
        fitted = demonstrations.fitted_to(envs)
        expert, ends = (steps.apply(lambda x: x.to(device)) for steps in (fitted.transitions, fitted.terminations))
        policy.normalizer.update(expert.obs, weight=self.expert_weight)
        survives = demonstrations.n_terminated < len(demonstrations.episode_lengths)
        return Expert(expert, demonstrations.termination_rate, ends, survives)

    def endings(self, policy: Policy, expert: Expert) -> TerminationReward | None:
        """The reward of an episode's end, on the device of the expert's pairs; None without `absorbing_states`."""
        if not self.absorbing_states:
            return None
        device, ends, terminal_states = expert.transitions.obs.device, expert.terminations, None
        if ends is not None and len(ends.rewards):
            discriminator = self.discriminator(policy, ("next_obs",)).to(device)
            pool = ReplayPool(1024, policy.observation_space.original, policy.action_space)
            terminal_states = TerminalStates(
                GAIL(discriminator, ends, self.gail, reward_logit), pool, len(ends.rewards)
            )
        rewards = TerminationReward(
            expert.termination_rate,
            terminal_states,
            self.learner.gamma,
            expert.survives,
            max_survival_reward=self.max_survival_reward,
            off_policy=isinstance(self.learner, OffPolicyLearner),
        )
        return rewards.to(device)

    def derived(self, demonstrations: Demonstrations) -> str:
        """What is derived from the expert's episodes, and the horizon beside it, in two lines to print."""
        lengths, known = demonstrations.episode_lengths, len(demonstrations.terminations.rewards)
        shortest, longest = f"{min(lengths):,}", f"{max(lengths):,}"
        rate, gamma = demonstrations.termination_rate, self.learner.gamma
        if self.absorbing_states:
            ends = f"rewarded by their rate (the expert's: {rate:.2g} per step){' and observations' * (known > 0)}"
            ends += f", weight {ending_weight(rate, gamma):.2g}"
        else:
            ends = "not rewarded"
        return (
            f"episodes of {shortest if shortest == longest else f'{shortest} to {longest}'} steps, "
            f"{demonstrations.n_terminated} of {len(lengths)} terminated, {known} terminal observations known\n"
            f"terminations {ends}; gamma {gamma:g}, "
            f"{'no horizon' if gamma == 1 else f'a horizon of {1 / (1 - gamma):,.0f} steps'}"
        )

    def discriminator(
        self, policy: Policy, parts: Sequence[str], make: type[Discriminator] = Discriminator, **options: Any
    ) -> Discriminator:
        """A fresh discriminator of `parts` of transitions in the policy's spaces; `options` are those of `make`."""
        return make(
            policy.normalizer.mean.shape[0],
            policy.action_space,
            self.net_arch,
            self.spectral_norm,
            self.dropout,
            self.symlog,
            policy.normalizer,
            parts,
            **options,
        )


MakeImitator = Callable[[Imitation, Policy, Expert], RewardModel]
"""From settings, a policy and the expert's pairs on one device."""


def gail(settings: Imitation, policy: Policy, expert: Expert) -> RewardModel:
    """A discriminator of pairs (Ho & Ermon 2016), or of states alone (Torabi et al. 2018)."""
    pairs, reward, endings = expert.transitions, REWARDS[settings.reward], settings.endings(policy, expert)
    evenly = torch.linspace(0, len(pairs.rewards) - 1, min(len(pairs.rewards), REFERENCE)).long()
    discriminator = settings.discriminator(
        policy,
        ("obs", "next_obs") if settings.state_only else ("obs", "actions"),
        FeatureMatching if settings.reward == "feature-matching" else Discriminator,
        reference=pairs[evenly.to(pairs.obs.device)] if settings.virtual_batch_norm else None,
        group=settings.minibatch_group,
        information_limit=settings.information_limit,
    )
    return GAIL(discriminator.to(pairs.obs.device), pairs, settings.gail, reward, endings)


def airl(settings: Imitation, policy: Policy, expert: Expert) -> RewardModel:
    """A discriminator whose logit is a reward, shaped, less the policy's log-likelihood (Fu et al. 2018).

    By the expert's statistics alone: inputs normalised anew would hold the likelihoods of the policy after its update,
    not of the one that acted. f says nothing of an episode's end.
    """
    discriminator = ShapedDiscriminator(policy, settings.net_arch, settings.learner.gamma, settings.symlog)
    pairs, config = expert.transitions, replace(settings.gail, follow_policy=False)
    return GAIL(discriminator.to(pairs.obs.device), pairs, config, reward_logit, settings.endings(policy, expert))


def fem(settings: Imitation, policy: Policy, expert: Expert) -> RewardModel:
    """Feature expectation matching (Abbeel & Ng 2004)."""
    return FEM(expert.transitions, policy.action_space, settings.endings(policy, expert))


def gtal(settings: Imitation, policy: Policy, expert: Expert) -> RewardModel:
    """Game-theoretic apprenticeship learning (Syed & Schapire 2007)."""
    return GTAL(expert.transitions, policy.action_space, settings.endings(policy, expert))


def constant(settings: Imitation, policy: Policy, expert: Expert) -> RewardModel:
    """The control: D = 1/2 everywhere."""
    return ConstantDiscriminator()


IMITATORS: Mapping[str, MakeImitator] = {"gail": gail, "airl": airl, "fem": fem, "gtal": gtal, "constant": constant}


def labelled_transitions(demonstrations: Demonstrations, pairs: Transitions, codes: Codes) -> Transitions:
    """Those of `pairs` whose mode the demonstrations tell, with the mode's code in their first columns."""
    if demonstrations.labels is None or (known := demonstrations.labels >= 0).sum() == 0:
        raise DemonstrationError(f"{demonstrations.path}: its manifest tells no mode of the episodes drawn (labels)")
    labels = demonstrations.labels[known]
    if (most := int(labels.max())) >= codes.codes:
        raise DemonstrationError(f"{demonstrations.path}: a label is {most}, and codes is {codes.codes}")
    told = pairs[known.to(pairs.obs.device)]
    columns = torch.nn.functional.one_hot(labels, codes.width).to(told.obs)
    return replace(told, obs=torch.cat((columns, told.obs), -1), next_obs=torch.cat((columns, told.next_obs), -1))


def with_codes(
    envs: CodedEnv,
    settings: Imitation,
    policy: Policy,
    demonstrations: Demonstrations,
    make: MakeImitator,
    labels: bool = False,
) -> WeightedSum:
    """InfoGAIL (Li et al. 2017): an imitator that doesn't see the code, beside a reward for telling it.

    Args:
        envs: what will be acted in.
        settings: with `settings.code`'s codes, those of `envs`.
        policy: fresh, of observations with codes, on its device.
        demonstrations: of observations without.
        make: the imitator, one of `IMITATORS` but AIRL.
        labels: learn the codes of modes that the demonstrations tell from them.

    Raises:
        DemonstrationError: the demonstrations are of other spaces, or tell no mode or one that has no code.
    """
    codes, statistics = settings.code, policy.normalizer
    # Of its spaces and statistics alone.
    plain = Policy(envs.env.single_observation_space, policy.action_space)
    plain.normalizer = statistics.part(slice(codes.width, None))
    expert = settings.expert(envs.env, plain, demonstrations)
    for known, prior in zip((statistics.mean, statistics.var), codes.moments(), strict=True):
        known[: codes.width] = torch.from_numpy(prior)
    labelled = labelled_transitions(demonstrations, expert.transitions, codes) if labels else None
    posterior = CodePosterior(
        codes, policy.observation_space, policy.action_space, codes.posterior, neutral=True, labelled=labelled
    )
    imitator = HiddenCode(make(settings, plain, expert), codes.width)
    terms: dict[str, tuple[RewardModel, float]] = {"imitation": (imitator, 1.0), "code": (posterior, codes.code_weight)}
    return WeightedSum(terms, main="imitation").to(statistics.mean.device)


def reward_model(
    envs: gym.vector.VectorEnv,
    demonstrations: Demonstrations,
    told: Imitation | None = None,
    make: MakeImitator = gail,
    device: torch.device | str = "cpu",
) -> RewardModel:
    """A fresh reward model for a learner of another package, such as Stable-Baselines3's, see `rlgen.sb3`.

    Args:
        envs: of the spaces that will be acted in.
        demonstrations: what it learns from.
        told: its settings; those of `learner` but for gamma have no effect (default: `settings()`).
        make: one of `IMITATORS`; not `airl`, which reads the likelihoods of a policy of ours.
        device: of the learner.

    Raises:
        DemonstrationError: the demonstrations are of other spaces.
    """
    told = told or settings()
    policy = Policy(envs.single_observation_space, envs.single_action_space).to(device)  # for its statistics alone
    return make(told, policy, told.expert(envs, policy, demonstrations))


_OF_GAIL = (
    "gradient_penalty_coef",
    "entropy_coef",
    "expert_label",
    "input_noise",
    "historical_averaging",
    "symlog",
)
_OF_DISCRIMINATOR = (
    "state_only",
    "reward",
    "dropout",
    "spectral_norm",
    "virtual_batch_norm",
    "minibatch_group",
    "information_limit",
)
UNUSED: Mapping[str, tuple[str, ...]] = {
    "airl": _OF_DISCRIMINATOR,
    "fem": (*_OF_GAIL, *_OF_DISCRIMINATOR),
    "gtal": (*_OF_GAIL, *_OF_DISCRIMINATOR),
    "constant": (*_OF_GAIL, *_OF_DISCRIMINATOR, "absorbing_states"),
}
"""Settings without effect, by imitator."""

# Noise starts near the expert's: from a deviation of 1 a discriminator tells pairs by the size of their actions. Small
# rollouts and long steps, which shrink: the first make learning fast, the last keep what was learned.
_LEARNER = Learner(
    TRPOConfig(target_kl=0.03, final_share=0.1, batch_size=128),
    n_steps=64,
    n_envs=16,
    total_timesteps=1_000_000,
    log_std_init=-1.0,
)
_OPTIMIZERS = {"trpo": _LEARNER.optimizer, "ppo": PPOConfig(n_epochs=10, batch_size=256)}

# Off-policy: the expert's pairs stand beside the policy's own, and the policy starts close to them by cloning. The
# discriminator learns from many small batches with a larger penalty, since the policy goes along its gradient. Step
# sizes shrink, without which a policy that has reached the expert loses it again and again.
_OFF_POLICY = OffPolicyLearner(
    SVGConfig(cloning_weight=100.0, final_share=0.1), scale_rewards=False, reward_batch=1280, examples_share=0.25
)
_OFF_POLICY_LEARNERS = {
    "svg": _OFF_POLICY,
    "sac": replace(_OFF_POLICY, optimizer=replace(_OFF_POLICY.optimizer, horizon=0)),
}
_OFF_POLICY_GAIL = GAILConfig(learning_rate=3e-4, n_updates=25, batch_size=128, gradient_penalty_coef=1.0)

# Ho & Ermon's settings, as their published code has them: 2 x 100 tanh networks, 50,000 pairs an iteration, one
# full-batch discriminator step of 0.01, no penalty. What stays ours in all presets: the critic is a regression without
# the time, rewards are scaled, a time limit bootstraps, weights start orthogonal, actions are clipped.
_PAPER_LEARNER = Learner(
    TRPOConfig(
        target_kl=0.01,
        cg_max_steps=10,
        cg_damping=0.1,
        line_search_shrinking_factor=0.5,
        sub_sampling_factor=10,
        n_critic_updates=2,
    ),
    n_steps=782,
    total_timesteps=25_000_000,
    gamma=0.995,
    gae_lambda=0.97,
    net_arch=(100, 100),
    centre_rewards=False,
)
_PAPER_GAIL = GAILConfig(
    learning_rate=0.01,
    n_updates=1,
    batch_size=None,
    gradient_penalty_coef=0.0,
    entropy_coef=0.001,
    follow_policy=True,
)

_SETTINGS = {
    "default": {
        **{algo: Imitation(replace(_LEARNER, optimizer=x), GAILConfig()) for algo, x in _OPTIMIZERS.items()},
        **{algo: Imitation(x, _OFF_POLICY_GAIL, symlog=False) for algo, x in _OFF_POLICY_LEARNERS.items()},
    },
    "paper": {
        algo: Imitation(
            replace(_PAPER_LEARNER, optimizer=optimizer),
            _PAPER_GAIL,
            symlog=False,
            reward="softplus",
            absorbing_states=False,
        )
        for algo, optimizer in {"trpo": _PAPER_LEARNER.optimizer, "ppo": PPOConfig()}.items()
    },
}


PRESETS = tuple(_SETTINGS)


def settings(preset: str = "default", algo: str = "trpo") -> Imitation:
    """The settings, the same for every task; `preset` is one of `PRESETS`, `algo` one of `rlgen.presets.LEARNERS`.

    Raises:
        UsageError: the preset isn't for this learner.
    """
    if algo not in _SETTINGS[preset]:
        raise UsageError(f"preset {preset} is for algo {' and '.join(_SETTINGS[preset])}; got {algo}")
    return _SETTINGS[preset][algo]
