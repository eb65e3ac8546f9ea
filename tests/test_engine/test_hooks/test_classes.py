"""Data are refused if their classes differ from those of the model or of the other data."""

from types import SimpleNamespace

import pytest
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import nn

from a2mim_mm.engine.hooks import ClassesHook
from a2mim_mm.registry import HOOKS

ADVICE = (
    'set model.head.num_classes and data_preprocessor.num_classes, or correct the folders '
    '(an empty folder does not count as a class)'
)


class Classifier(nn.Module):
    """Has a head with a number of classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.head, self.data_preprocessor = nn.Identity(), nn.Identity()
        self.head.num_classes = num_classes


class Wrapped(MMDistributedDataParallel):
    """Wraps a model without other processes."""

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module


class FakeRunner:
    """What the hook needs of a Runner; it has only the loaders that it was given."""

    def __init__(self, model, **classes):
        self.model, self.val_loop = model, 'val' in classes or None
        for split, names in classes.items():
            dataset = SimpleNamespace(metainfo=dict(classes=tuple(names)))
            setattr(self, f'{split}_dataloader', SimpleNamespace(dataset=dataset))


@pytest.fixture(params=[lambda model: model, Wrapped], ids=['plain', 'wrapped'])
def wrap(request):
    return request.param


def refusal(method, *args, **kwargs):
    with pytest.raises(ValueError) as error:
        getattr(ClassesHook(), method)(FakeRunner(*args, **kwargs))
    return str(error.value)


def test_agreement_passes(wrap):
    assert is_model_wrapper(Wrapped(Classifier(1)))
    hook, model = HOOKS.build(dict(type='a2mim_mm.ClassesHook')), wrap(Classifier(3))
    hook.before_train(FakeRunner(model, train='abc', val='abc'))
    hook.before_train(FakeRunner(model, train='abc'))
    hook.before_test(FakeRunner(model, test='abc'))


@pytest.mark.parametrize('count', [1, 3, 1000])
def test_number_of_the_head(wrap, count):
    for method, split in (('before_train', 'train'), ('before_test', 'test')):
        message = refusal(method, wrap(Classifier(count)), **{split: 'ab'})
        assert message == f'{split}_dataloader has 2 classes (a, b), model.head {count}: {ADVICE}'
    names = [f'class_{index}' for index in range(6)]
    assert f'6 classes ({", ".join(names[:5])}, and 1 more), ' in refusal(
        'before_train', Classifier(count), train=names
    )


@pytest.mark.parametrize(
    ('train', 'val', 'counts', 'differing'),
    [
        ('abc', 'abd', (3, 3), 'c, d'),  # as many, but c and d would have one label
        ('abc', 'ab', (3, 2), 'c'),  # an empty folder in validation
        ('abc', 'abcd', (3, 4), 'd'),
        ('abc', 'bc', (3, 2), 'a'),  # all labels of validation are one too low
        ('abc', 'def', (3, 3), 'a, b, c, d, e, and 1 more'),
    ],
)
def test_training_and_validation_differ(wrap, train, val, counts, differing):
    message = refusal('before_train', wrap(Classifier(3)), train=train, val=val)
    assert message == (
        f'train_dataloader has {counts[0]} classes and val_dataloader {counts[1]}; only one of them has '
        f'{differing} (a folder without images does not count as a class)'
    )


def test_training_and_validation_number_their_classes_alike(wrap):
    message = refusal('before_train', wrap(Classifier(3)), train='abc', val='acb')
    assert message == 'train_dataloader and val_dataloader number the same classes differently'


def test_a_test_has_the_classes_that_the_checkpoint_was_trained_on(wrap):
    hook, runner = ClassesHook(), FakeRunner(wrap(Classifier(3)), test='abc')
    for checkpoint in ({}, dict(meta=None), dict(meta={}), dict(meta=dict(dataset_meta=dict(classes='abc')))):
        hook.after_load_checkpoint(runner, checkpoint)
        hook.before_test(runner)
    hook.after_load_checkpoint(runner, dict(meta=dict(dataset_meta=dict(classes=('a', 'b', 'd')))))
    with pytest.raises(ValueError, match='the checkpoint has 3 classes and test_dataloader 3; .* has c, d '):
        hook.before_test(runner)


def test_number_of_the_mixed_labels(wrap):
    model = Classifier(2)
    for number in (None, 2):  # None: nothing is mixed
        model.data_preprocessor.num_classes = number
        ClassesHook().before_train(FakeRunner(wrap(model), train='ab'))
    model.data_preprocessor.num_classes = 3
    message = refusal('before_train', wrap(model), train='ab')
    assert message == f'train_dataloader has 2 classes (a, b), data_preprocessor 3: {ADVICE}'
